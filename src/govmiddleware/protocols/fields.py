"""Typed reading of single top-level fields of a request body."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from govmiddleware.core.attribution import is_too_long
from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols import large_json

T = TypeVar("T")

Object = dict[str, Any]
Objects = list[dict[str, Any]]
Elements = list[Any]
"""What fields hold. Named, since to write such a type anew costs as much as to read a small field."""

LARGEST_TOKEN_LIMIT = 2**31 - 1
"""Larger output limits are refused: no model is near it, and every upstream reads at least 32 bits."""

LONGEST_NAME = 256
"""Names of models and functions are refused beyond this many characters."""

LONGEST_CALLER = 128
"""Names of users are refused beyond this many: as those in headers."""

_EMPTY = (None, b"null", b"[]", b"{}")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read(body: RequestBody, name: str, kind: type[T]) -> T | None:
    """One field, decoded strictly (a bool is no int, 1.0 neither); None where absent or null.

    Raises InvalidRequest that names the field, whatever is wrong with it.
    """
    raw = body.fields.get(name)
    if raw is None or raw == b"null":
        return None
    try:
        if body.typed:
            found: T = large_json.decode(raw, kind)
            return found
        return msgspec.json.decode(raw, type=kind, strict=False)
    except _UNREADABLE as error:
        raise _invalid(name, error) from error


def decode(raw: bytes, kind: type[T], name: str) -> T:
    """What stands in some JSON. Raises InvalidRequest that names it."""
    try:
        found: T = large_json.decode(raw, kind)
    except _UNREADABLE as error:
        raise _invalid(name, error) from error
    return found


def read_count(body: RequestBody, name: str, *, least: int, most: int) -> int | None:
    """A whole number within bounds. Raises InvalidRequest."""
    value = read(body, name, int)
    if value is not None and not least <= value <= most:
        raise InvalidRequest(f"'{name}' must be between {least} and {most}.", param=name)
    return value


def read_name(body: RequestBody, name: str, longest: int = LONGEST_NAME) -> str | None:
    """A string of bounded length; None where absent, null or empty. Raises InvalidRequest."""
    value = read(body, name, str)
    return bounded_name(value, name, longest) if value else None


def bounded_name(value: str | None, param: str, longest: int = LONGEST_NAME) -> str | None:
    """`value`, or None where it is empty. Raises InvalidRequest where it is too long for a name."""
    if value is not None and is_too_long(value, longest):
        raise InvalidRequest(
            f"'{param}' is longer than {longest} characters, or than {2 * longest} bytes.", param=param
        )
    return value or None


def refuse_fields(body: RequestBody, names: Collection[str], reason: str) -> None:
    """Raise InvalidRequest for the first of `names` that says anything, with the reason."""
    if body.names().isdisjoint(names):
        return
    for name in names:
        if body.raw(name) not in _EMPTY:
            raise InvalidRequest(f"'{name}' is not supported here: {reason}", param=name)


def _invalid(name: str, error: Exception) -> InvalidRequest:
    # msgspec ends its messages with "- at `$[0].content`": the path below the field.
    problem, _, path = str(error).partition(" - at `$")
    param = name + path.rstrip("`")
    if isinstance(error, RecursionError):
        problem = "it is nested too deeply"
    return InvalidRequest(f"Invalid '{param}': {problem}.", param=param)
