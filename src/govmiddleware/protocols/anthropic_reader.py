"""Readers of messages: usage, the model, what was delivered, in JSON and in streams.

Source: platform.claude.com/docs/en/build-with-claude/streaming, and the recordings.
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers
from govmiddleware.protocols.anthropic_ending import Ending
from govmiddleware.protocols.anthropic_usage import tier_of, usage_of
from govmiddleware.protocols.readers import text_or_none
from govmiddleware.protocols.sse import data_of

_HEAD = ("model", "usage")
_SPOKEN = ("text", "thinking", "partial_json", "name", "content")
"""Of blocks and deltas, what the model generated. Results of tools have lists and objects as their content."""


_DELTA = b"event: content_block_delta\n"
"""Nearly every event."""


class JsonReader(readers.JsonReader):
    """Reads an unstreamed message."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        head: dict[str, Any] = {name: msgspec.json.decode(answer[name]) for name in _HEAD if name in answer}
        self.model = text_or_none(head.get("model"))
        self.usage = usage_of(head.get("usage"))
        self.service_tier = tier_of(head.get("usage"))
        if self.usage is None and "content" in answer:
            content = msgspec.json.decode(answer["content"])
            for block in content if isinstance(content, list) else ():
                collect_delivered(block, self._delivered)


class StreamReader(readers.StreamReader):
    """Reads a stream of events as they pass. Its usage is what was reported last, of each figure."""

    def __init__(self, *, may_be_cut: bool) -> None:
        super().__init__(holds=may_be_cut, reads_late=not may_be_cut)
        self._ending = Ending()
        self._reported: dict[str, Any] = {}
        self._told_output = False

    def _unread(self, chunk: bytes) -> bytes | None:
        if chunk.startswith(_DELTA) and chunk.count(b"\nevent:") == chunk.count(b"\n" + _DELTA):
            return chunk
        return None

    def _pass(self, event: bytes) -> bytes:
        data = self._data_of(event)
        said = readers.object_in(data) if data is not None else None
        if said is None:
            return event
        if said.get("type") == "content_block_delta":  # nearly every event
            collect_delivered(said.get("delta"), self._delivered)
        else:
            self._ending.note(said)
            self._read(said)
        return event

    def _data_of(self, event: bytes) -> bytes | None:
        return data_of(event)

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        return self._ending.write(usage, model, request_id)

    def _read(self, said: dict[str, Any]) -> None:
        match said.get("type"):
            case "message_start":
                message = said.get("message")
                if isinstance(message, dict):
                    self.model = text_or_none(message.get("model"))
                    self._report(message.get("usage"))
            case "content_block_start":
                collect_delivered(said.get("content_block"), self._delivered)
            case "message_delta":
                usage = said.get("usage")
                self._report(usage)
                self._told_output |= isinstance(usage, dict) and "output_tokens" in usage
            case "message_stop":
                self.finished = True
                if not self._told_output:  # message_start can only say what the input was
                    self.usage = None

    def _report(self, usage: object) -> None:
        """Figures are cumulative: each overwrites the one before it, and what is left out still holds."""
        if isinstance(usage, dict):
            self._reported |= {name: value for name, value in usage.items() if value is not None}
            self.usage = usage_of(self._reported)
            self.service_tier = tier_of(self._reported)


def collect_delivered(part: object, into: list[str]) -> None:
    """The texts of a block or a delta that the model generated."""
    if not isinstance(part, dict):
        return
    for name in _SPOKEN:
        if name in part and isinstance(text := part[name], str) and text:
            into.append(text)
    arguments = part.get("input")  # of a tool, in an answer that is not a stream
    if arguments and isinstance(arguments, dict):
        into.append(msgspec.json.encode(arguments).decode())
