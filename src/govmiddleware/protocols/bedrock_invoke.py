"""Bedrock's invoke and invoke-with-response-stream, for Anthropic's models: messages, in frames where they are streamed.

POST …/model/MODEL/invoke, which is what Anthropic's SDK for Bedrock and Claude Code send. The models of other makers
have forms of their own there, which are not read here. Source:
docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html, and the `lib/bedrock` of
anthropic-sdk-python 2.12.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Any

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.paths import folded
from govmiddleware.core.ports import RefusalResponse, UsageReader
from govmiddleware.core.refusals import Refusal
from govmiddleware.core.usage import Usage
from govmiddleware.protocols import anthropic_reader, bedrock_errors
from govmiddleware.protocols.anthropic_messages import AnthropicMessages
from govmiddleware.protocols.aws_frames import FrameSplitter, read_frame
from govmiddleware.protocols.bedrock_ending import event
from govmiddleware.protocols.bedrock_model import read_address
from govmiddleware.protocols.readers import object_in, text_or_none

_ANTHROPICS = re.compile(r"(?:.*[./])?anthropic\.")


class BedrockInvoke(AnthropicMessages):
    """The WireProtocol `bedrock.invoke`."""

    name = "bedrock.invoke"

    def recognises(self, method: str, path: str) -> bool:
        resource, _, operation = path.rpartition("/")
        called = method == "POST" and operation in ("invoke", "invoke-with-response-stream")
        _, _, model = resource.partition("/model/")
        return called and _ANTHROPICS.match(model) is not None

    def read_address(self, body: RequestBody, path: str, query: bytes) -> str:
        return read_address(body, path, query)

    def streams(self, body: RequestBody, path: str) -> bool:
        return folded(path).endswith("-stream")

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return StreamReader(may_be_cut=may_be_cut) if stream else JsonReader()

    def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
        return bedrock_errors.refusal_response(refusal, request_id)

    def stream_error(self, refusal: Refusal, request_id: str) -> bytes:
        return bedrock_errors.stream_error(refusal)


class JsonReader(anthropic_reader.JsonReader):
    """Reads an unstreamed message. The name that it gives its model is Anthropic's, and not what is priced here."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        super()._read({name: member for name, member in answer.items() if name != "model"})


class StreamReader(anthropic_reader.StreamReader):
    """Reads a stream of frames, each of which holds an event of Anthropic's."""

    def __init__(self, *, may_be_cut: bool) -> None:
        super().__init__(may_be_cut=may_be_cut)
        self._events = self._frames = FrameSplitter()

    def _data_of(self, event: bytes) -> bytes | None:
        frame = read_frame(event)
        chunk = object_in(frame.payload) if frame is not None else None
        encoded = text_or_none(chunk.get("bytes")) if chunk is not None else None
        try:
            return b64decode(encoded) if encoded is not None else None
        except ValueError:
            return None

    def _read(self, said: dict[str, Any]) -> None:
        super()._read(said)
        self.model = None  # as above

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        if self._frames.inside_a_frame:
            return b""
        return b"".join(map(in_frame, self._ending.events(usage, model, request_id)))


def in_frame(said: dict[str, Any]) -> bytes:
    """The frame that holds an event of Anthropic's."""
    return event("chunk", {"bytes": b64encode(msgspec.json.encode(said)).decode()})
