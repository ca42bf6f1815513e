"""Keys in query strings, which is where Google's APIs take them too. All else in a query stays as it came."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

_KEY = b"key"


def keys_in(query: bytes) -> Iterator[str]:
    """The values of `?key=` in a raw query string that say anything."""
    for part in query.split(b"&"):
        if _name_of(part) == _KEY and (value := unquote_to_bytes(part.partition(b"=")[2]).strip()):
            yield value.decode("utf-8", "surrogateescape")


def without_key(query: bytes) -> bytes:
    """The query without its keys."""
    return b"&".join(part for part in query.split(b"&") if _name_of(part) != _KEY)


def _name_of(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0])
