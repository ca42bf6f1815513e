"""How servers that are more lenient than RFC 3986 may read a request target: all ways, in any order."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable
from urllib.parse import unquote


def _resolve(path: str) -> str:
    """As RFC 3986, 5.2.4; dots above the root are dropped."""
    return posixpath.normpath(path) if path.startswith("/") else path


_LENIENCIES: tuple[Callable[[str], str], ...] = (
    unquote,
    str.lower,
    lambda path: unicodedata.normalize("NFKC", path),
    lambda path: path.replace("\\", "/"),
    lambda path: re.sub("/{2,}", "/", path),
    _resolve,
    lambda path: re.sub(";[^/]*", "", path),  # Java's path parameters
    lambda path: path.partition(";")[0],
    lambda path: path.partition("?")[0],
    lambda path: path.partition("#")[0],
    lambda path: path.partition("\0")[0],  # C strings
    lambda path: re.sub(r"[\0-\x1f\x7f]", "", path),  # WHATWG URL
    lambda path: path.rstrip(" .\t\r\n/"),  # Windows, and a `$` that matches before a line end
    lambda path: re.sub("^[a-z]+://[^/]*", "", path),  # the absolute form
)


def readings(target: str) -> set[str]:
    """Every path that some order of leniencies makes of a request target."""
    found = {target.partition("?")[0]}
    fresh: Iterable[str] = found
    while fresh := {lenient(path) for path in fresh for lenient in _LENIENCIES} - found:
        found |= fresh
    return found


def is_ranking(path: str) -> bool:
    """Whether a path is that of a ranking, which costs and is metered by nobody."""
    return re.search(r"/rerank/*\Z", path) is not None


def is_metered(path: str) -> bool:
    """Whether a path is that of a model call, whatever stands before."""
    return re.search(r"/(completions|embeddings)/*\Z", path) is not None
