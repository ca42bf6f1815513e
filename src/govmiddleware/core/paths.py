"""Request paths: the form in which every server reads the same, and what of a path servers ignore."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_to_bytes

_SPELT_OUT = re.compile(
    rb"/(?:[A-Za-z0-9._~!$&'()*+,=:@/-]"  # RFC 3986, 3.3, without ';'
    rb"|%(?!2[Ee]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])[0-9A-Fa-f]{2})*"  # no encoded letter, digit or dot
)
_READ_TWO_WAYS = re.compile(r"[\0-\x1f\x7f%;?#\\]")


def raw_path(scope: Mapping[str, Any]) -> bytes:
    """The path of an ASGI scope as it came, percent-encoded; encoded again where the server keeps it not."""
    return scope.get("raw_path") or quote(scope["path"]).encode("ascii")


@lru_cache(maxsize=256)
def is_plain(raw_path: bytes) -> bool:
    """Whether a path, percent-encoded as it came, can be read in one way only.

    Servers differ in what they make of empty and dot segments, of parameters behind `;`, of backslashes,
    and of what is encoded without need or twice: some would find another route in such a path than was
    judged. (Spring Security's StrictHttpFirewall refuses the same, and encoded slashes too, which stand in
    names of models.) An encoded slash is taken for a slash.
    """
    if not _SPELT_OUT.fullmatch(raw_path):
        return False
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:  # an overlong slash, for one
        return False
    if _READ_TWO_WAYS.search(path) or not unicodedata.is_normalized("NFKC", path):
        return False
    return {"", ".", ".."}.isdisjoint(path.rstrip("/").split("/")[1:])


def trimmed(path: str) -> str:
    """A decoded path without what some servers ignore at its end: slashes, dots, spaces and line ends. A
    route of Starlette, for one, matches a path with a line feed behind it."""
    return path.rstrip("/. \t\r\n\v\f")


@lru_cache(maxsize=256)
def folded(path: str) -> str:
    """A decoded path for comparison: trimmed, and in lower case, since there are servers that ignore it."""
    return trimmed(path).lower()


def is_under(path: str, prefix: str) -> bool:
    """Whether a path is the prefix or goes on with a segment behind it."""
    return path == prefix or path.startswith(prefix + "/")
