"""Large JSON, decoded in steps of which none takes long.

The decoder is not Python's code and keeps the interpreter from every other thread, the event loop's too, until it is done:
10 to 20 ms for a megabyte in 28,000 messages. In between, others get their turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import msgspec

LARGE = 65_536
"""Bytes. More are decoded in steps of about so many: half a millisecond each."""

_DEEPEST = 4
"""Levels of arrays and objects that are taken apart. What is large further down is decoded at once."""

_array = msgspec.json.Decoder(list[msgspec.Raw])
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

_decoder = lru_cache(msgspec.json.Decoder)
"""To make one for a type that is not the simplest takes longer than to read a small field."""

_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")

_PLACE = re.compile(r"(?<=`\$\[)\d+")


class _PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "developer", "user", "assistant"]
    content: str


_plain_messages = msgspec.json.Decoder(list[_PlainMessage])


def decode(raw: bytes, kind: Any = Any) -> Any:
    """What `msgspec.json.decode` makes of valid JSON, as a type. Raises what it raises."""
    if len(raw) <= LARGE:
        return _decoder(kind).decode(raw)
    if not raw.startswith(b"["):
        return msgspec.convert(_decoded(raw, _DEEPEST), type=kind)
    items: list[Any] = []
    for step in _steps(_array.decode(raw)):
        try:
            items += msgspec.convert(_all_decoded(step, _DEEPEST), type=kind)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(_further(str(error), len(items))) from None
    return items


def plain_texts(raw: bytes) -> list[str] | None:
    """What is said in an array of messages that are all a role and a text, as in a chat's history. None where
    anything else is in it: read those message by message, which takes ten times as long."""
    if b'"data:' in raw and b";base64," in raw:  # which may be a file
        return None
    texts: list[str] = []
    try:
        for part in _parts(raw) if len(raw) > LARGE else (raw,):
            texts += [message.content for message in _plain_messages.decode(part)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return texts


def _further(problem: str, by: int) -> str:
    """A message about an item of a step, with its place among all items."""
    return _PLACE.sub(lambda found: str(int(found[0]) + by), problem)


def _parts(raw: bytes) -> Iterator[bytes]:
    """An array of objects as arrays of about LARGE bytes, if none of its objects holds others: then what stands
    between two is found as it is written, which no string can hold but one that makes a part no JSON."""
    cuts = [(0, 0)]
    while cut := _BETWEEN_OBJECTS.search(raw, cuts[-1][1] + LARGE):
        cuts.append((cut.start() + 1, cut.end() - 1))
    cuts.append((len(raw), len(raw)))
    for (_, start), (end, _) in pairwise(cuts):
        opened, closed = b"[" if start else b"", b"]" if end < len(raw) else b""
        yield opened + raw[start:end] + closed


def _decoded(raw: bytes, depth: int) -> Any:
    if len(raw) > LARGE and depth:
        if raw.startswith(b"["):
            return [item for step in _steps(_array.decode(raw)) for item in _all_decoded(step, depth - 1)]
        if raw.startswith(b"{"):
            members = _object.decode(raw).items()
            return {name: _decoded(bytes(value), depth - 1) for name, value in members}
    return msgspec.json.decode(raw)


def _all_decoded(items: list[msgspec.Raw], depth: int) -> list[Any]:
    together = b"[" + b",".join(items) + b"]"
    if len(together) <= 2 * LARGE:
        return msgspec.json.decode(together, type=list[Any])
    return [_decoded(bytes(item), depth - 1) for item in items]


def _steps(items: list[msgspec.Raw]) -> Iterator[list[msgspec.Raw]]:
    """Items that together have about LARGE bytes, if they are all of about one size."""
    size = sum(map(len, items))
    step = max(1, len(items) * LARGE // max(1, size))
    for start in range(0, len(items), step):
        yield items[start : start + step]
