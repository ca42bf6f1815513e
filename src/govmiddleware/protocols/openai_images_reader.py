"""Readers of answers that are pictures: their usage, or how many there are."""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers
from govmiddleware.protocols.readers import count_or_none, object_in
from govmiddleware.protocols.sse import EventSplitter, data_of

_COMPLETED = (b"image_generation.completed", b"image_edit.completed")


class JsonReader(readers.JsonReader):
    """Reads an unstreamed answer. The usage of what draws for a price a picture is their number."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        pictures = msgspec.json.decode(answer.get("data", b"[]"), type=list[msgspec.Raw] | None) or []
        reported = msgspec.json.decode(answer.get("usage", b"null"))
        self.usage = read_usage(reported, images=len(pictures))


class StreamReader(readers.StreamReader):
    """Reads a stream of pictures, each of which ends with its own usage. It is whole if it ends after one."""

    def __init__(self) -> None:
        super().__init__(holds=False)
        self._events = EventSplitter(readers.LARGEST_ANSWER)

    def close(self) -> bytes:
        rest = super().close()
        self.finished = self.usage is not None
        return rest

    def _take(self, piece: bytes, whole: bool) -> bytes:
        return self._pass(piece) if whole else piece

    def _pass(self, event: bytes) -> bytes:
        if any(kind in event for kind in _COMPLETED):  # which is quick, and an event may be of megabytes
            completed = object_in(data_of(event) or b"") or {}
            if str(completed.get("type")).encode() in _COMPLETED:
                self.usage = (self.usage or Usage()) + read_usage(completed.get("usage"), images=1)
        return event

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        return b""


def read_usage(reported: object, *, images: int) -> Usage:
    """A `usage` object, normalised; without one that can be believed, the number of pictures alone."""
    reported = reported if isinstance(reported, dict) else {}
    given = count_or_none(reported.get("input_tokens"))
    drawn = count_or_none(reported.get("output_tokens"))
    if given is None or drawn is None:
        return Usage(images=images)
    written = _part(reported, "output_tokens_details", "text_tokens", drawn)
    return Usage(
        input_tokens=given,
        cached_tokens=_part(reported, "input_tokens_details", "cached_tokens", given),
        input_image_tokens=_part(reported, "input_tokens_details", "image_tokens", given),
        output_tokens=drawn,
        output_image_tokens=drawn - written,
        images=images,
    )


def _part(reported: dict[str, Any], details: str, name: str, whole: int) -> int:
    told = reported.get(details)
    return min(count_or_none(told.get(name)) or 0, whole) if isinstance(told, dict) else 0
