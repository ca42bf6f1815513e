"""Readers of responses: usage, the model, what was delivered, in JSON and in streams.

Source: platform.openai.com/docs/api-reference/responses-streaming, and the recordings.
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers
from govmiddleware.protocols.openai_responses_ending import Ending
from govmiddleware.protocols.openai_responses_usage import usage_of
from govmiddleware.protocols.readers import text_or_none
from govmiddleware.protocols.sse import data_of

_HEAD = ("model", "status", "service_tier", "usage", "tool_usage", "output")
_ONGOING = ("queued", "in_progress")
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_SPOKEN = ("text", "refusal", "name", "arguments", "input", "code", "content", "summary")
"""Of items and their parts, what the model generated. What tools put out has other names."""


class JsonReader(readers.JsonReader):
    """Reads an unstreamed response. That of a call in the background is not one yet."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        head: dict[str, Any] = {name: msgspec.json.decode(answer[name]) for name in _HEAD if name in answer}
        self.model = text_or_none(head.get("model"))
        self.service_tier = _tier_of(head)
        self.usage = usage_of(head)
        self.finished = head.get("status") not in _ONGOING
        if self.usage is None:
            collect_delivered(head.get("output"), self._delivered)


class StreamReader(readers.StreamReader):
    """Reads a stream of events as they pass."""

    def __init__(self, *, may_be_cut: bool) -> None:
        super().__init__(holds=may_be_cut)
        self._ending = Ending() if may_be_cut else None
        self._last_told: object = None

    def _pass(self, event: bytes) -> bytes:
        data = data_of(event)
        said = readers.object_in(data) if data is not None else None
        if said is not None:
            if self._ending is not None:
                self._ending.note(said)
            self._read(said)
        return event

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        return self._ending.write(usage, model, request_id) if self._ending else b""

    def _read(self, said: dict[str, Any]) -> None:
        kind, index = str(said.get("type")), said.get("output_index")
        response, delta = said.get("response"), said.get("delta")
        if isinstance(response, dict):
            self.model = text_or_none(response.get("model")) or self.model
            self.service_tier = _tier_of(response) or self.service_tier
            self.usage = usage_of(response) or self.usage
        if kind in _LAST:
            self.finished = True
        elif kind.endswith(".delta") and isinstance(delta, str) and not kind.endswith("audio.delta"):
            self._delivered.append(delta)
            self._last_told = index
        elif kind == "response.output_item.done":
            item = said.get("item")
            if index == self._last_told and isinstance(item, dict):
                item = item.get("name")  # the rest came in deltas
            collect_delivered(item, self._delivered)


def _tier_of(response: dict[str, Any]) -> str | None:
    """The tier that serves a response. One that begins says `auto` as long as that is not decided."""
    tier = text_or_none(response.get("service_tier"))
    return None if tier == "auto" else tier


def collect_delivered(said: object, into: list[str]) -> None:
    """The texts of items and of their parts that a model generated."""
    pending = [said]
    while pending:
        said = pending.pop()
        if isinstance(said, str) and said:
            into.append(said)
        elif isinstance(said, list):
            pending.extend(said)
        elif isinstance(said, dict):
            pending.extend(said[name] for name in _SPOKEN if name in said)
