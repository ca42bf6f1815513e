"""What the parts of a prompt add to its estimate: agents send their whole conversation again at every turn, and what was
read before need not even be decoded."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """What one part adds: a message, or all definitions of tools.

    Attributes:
        tokens: of its texts, as counted.
        text_bytes: of its texts, in UTF-8.
        overhead_tokens, unknown_parts: as in RequestInfo.
        has_files: whether pictures, sounds or documents are in it.
        caches_for_an_hour: whether it may ask for that.
        opens_turn: whether the user says something in it.
    """

    tokens: int
    text_bytes: int
    overhead_tokens: int
    unknown_parts: int
    has_files: bool
    caches_for_an_hour: bool
    opens_turn: bool


class RawPart(NamedTuple):
    """A part as it stands in a body.

    Attributes:
        key: what it is known by; None for one so short that it is read again each time.
        known: what it adds, where that is known.
    """

    raw: bytes
    key: bytes | None
    known: Part | None


class NewPart(NamedTuple):
    """A part that was read for the first time.

    Attributes:
        start, end: of its texts, among those of the request.
        part: what it adds, its texts left out.
    """

    key: bytes
    start: int
    end: int
    part: Part
