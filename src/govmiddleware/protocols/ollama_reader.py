"""Readers of Ollama's answers, JSON and streams of a JSON object a line; the last line says what was used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers
from govmiddleware.protocols.json_lines import LineSplitter
from govmiddleware.protocols.readers import count_or_none, text_or_none

_SPOKEN = ("response", "content", "thinking")


class JsonReader(readers.JsonReader):
    """Reads an answer that is not a stream, or one of embeddings."""

    def _read(self, answer: dict[str, msgspec.Raw]) -> None:
        said = {name: msgspec.json.decode(value) for name, value in answer.items() if name != "embeddings"}
        self.model = text_or_none(said.get("model"))
        self.usage = usage_of(said)
        if self.usage is None:
            collect_delivered(said, self._delivered)


class StreamReader(readers.StreamReader):
    """Reads a stream of lines as they pass."""

    def __init__(self, *, may_be_cut: bool) -> None:
        super().__init__(holds=may_be_cut)
        self._events = LineSplitter()
        self._generates = False

    def _pass(self, event: bytes) -> bytes:
        said = readers.object_in(event)
        if said is not None:
            self.model = text_or_none(said.get("model")) or self.model
            self._generates = self._generates or "response" in said
            collect_delivered(said, self._delivered)
            if said.get("done") is True:
                self.usage = usage_of(said)
                self.finished = True
        return event

    def _end(self, usage: Usage, model: str, request_id: str) -> bytes:
        nothing: dict[str, Any] = {"message": {"role": "assistant", "content": ""}}
        last = {
            "model": self.model or model,
            "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            **({"response": ""} if self._generates else nothing),
            "done": True,
            "done_reason": "length",
            "prompt_eval_count": usage.input_tokens,
            "eval_count": usage.output_tokens,
        }
        return msgspec.json.encode(last) + b"\n"


def usage_of(said: dict[str, Any]) -> Usage | None:
    """What an answer, or the last line of a stream, says was used. A count of zero is left out, and so was, in
    Ollama's early versions, that of a prompt that was cached."""
    prompt = count_or_none(said.get("prompt_eval_count"))
    output = count_or_none(said.get("eval_count", 0))
    if prompt is None or output is None:
        return None
    return Usage(input_tokens=prompt, output_tokens=output)


def collect_delivered(said: dict[str, Any], into: list[str]) -> None:
    """The texts that the model generated: of chat in a message, of generate beside it."""
    message = said.get("message")
    for part in (said, message if isinstance(message, dict) else {}):
        into += [text for name in _SPOKEN if isinstance(text := part.get(name), str) and text]
        calls = part.get("tool_calls")
        if calls and isinstance(calls, list):
            into.append(msgspec.json.encode(calls).decode())
