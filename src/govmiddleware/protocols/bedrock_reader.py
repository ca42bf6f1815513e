"""Readers of converse: usage, what was delivered, in JSON and in streams.

Source: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html, and the recordings.
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers
from govmiddleware.protocols.aws_frames import FrameSplitter, read_frame
from govmiddleware.protocols.bedrock_ending import Ending
from govmiddleware.protocols.bedrock_usage import member_of, objects_in, routed_to, tier_of, usage_of

_HEAD = ("usage", "trace", "serviceTier", "performanceConfig")


class JsonReader(readers.JsonReader):
    """Reads an unstreamed answer."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        head: dict[str, Any] = {name: msgspec.json.decode(answer[name]) for name in _HEAD if name in answer}
        self.model, self.service_tier = routed_to(head), tier_of(head)
        self.usage = usage_of(head.get("usage"))
        if self.usage is None and "output" in answer:
            message = member_of(msgspec.json.decode(answer["output"], type=dict[str, Any]), "message")
            for block in objects_in(message.get("content")):
                collect_delivered(block, self._delivered)


class StreamReader(readers.StreamReader):
    """Reads a stream of events as they pass. The last of them, `metadata`, says what was used."""

    def __init__(self, *, may_be_cut: bool) -> None:
        super().__init__(holds=may_be_cut)
        self._events = self._frames = FrameSplitter()
        self._ending = Ending()

    def _pass(self, event: bytes) -> bytes:
        frame = read_frame(event)
        said = readers.object_in(frame.payload) if frame is not None else None
        if frame is not None and said is not None:
            kind = frame.headers.get(":event-type")  # which exceptions have not
            self._ending.note(kind, said)
            self._read(kind, said)
        return event

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        return b"" if self._frames.inside_a_frame else self._ending.write(usage)

    def _read(self, kind: str | None, said: dict[str, Any]) -> None:
        match kind:
            case "contentBlockStart":
                collect_delivered(said.get("start"), self._delivered)
            case "contentBlockDelta":
                collect_delivered(said.get("delta"), self._delivered)
            case "metadata":
                self.finished = True
                self.usage = usage_of(said.get("usage"))
                self.model, self.service_tier = routed_to(said), tier_of(said)


def collect_delivered(block: object, into: list[str]) -> None:
    """The texts of a block or a delta that the model generated."""
    if not isinstance(block, dict):
        return
    reasoning, tool = member_of(block, "reasoningContent"), member_of(block, "toolUse")
    said = [block.get("text"), reasoning.get("text"), member_of(reasoning, "reasoningText").get("text")]
    cited = member_of(block, "citationsContent").get("content")
    said += [part.get("text") for part in objects_in(cited)]
    said.append(tool.get("name"))
    arguments = tool.get("input")  # as JSON text in a stream
    said.append(msgspec.json.encode(arguments).decode() if isinstance(arguments, dict) else arguments)
    into += [text for text in said if isinstance(text, str) and text]
