"""How a chat completion stream is ended before its time: as if the model had reached its output limit."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import readers

_HEAD = ("id", "object", "created", "model", "service_tier", "system_fingerprint")


class Ending:
    """Follows a stream, and writes the end of it that clients take for a whole answer's.

    Source: what openai-python's `ChatCompletionStreamState` asks of a stream.

    Args:
        with_usage: whether the client asked for usage, and gets the chunk that says it.

    Attributes:
        owes_usage: whether that chunk is still to come.
    """

    _object, _id_prefix = "chat.completion.chunk", "chatcmpl"

    def __init__(self, *, with_usage: bool) -> None:
        self._no_usage: dict[str, Any] = {"usage": None} if with_usage else {}
        self.owes_usage = with_usage
        self._last = b""  # the data of the last chunk that said something
        self._finished: dict[int, bool] = {}

    def note(self, data: bytes, index: int, finished: bool) -> None:
        """One choice of a chunk, which the client has got: whether it ends with it."""
        self._last = data
        self._finished[index] = finished or self._finished.get(index, False)

    def write(self, usage: Usage, model: str, request_id: str) -> bytes:
        """The chunks that end each choice, the one with `usage` if it is owed, and `[DONE]`."""
        last = readers.object_in(self._last) or {}
        head = {
            "id": f"{self._id_prefix}-{request_id}",
            "object": self._object,
            "created": int(time.time()),
            "model": model,
            **{name: last[name] for name in _HEAD if name in last},
        }
        nothing = self._nothing(begins=not self._finished)
        if not self._finished:
            self._finished[0] = False
        choices = [
            {"index": index, **nothing, "logprobs": None, "finish_reason": "length"}
            for index, finished in sorted(self._finished.items())
            if not finished
        ]
        events = [_event({**head, "choices": [choice], **self._no_usage}) for choice in choices]
        if self.owes_usage:
            events.append(_event({**head, "choices": [], "usage": _reported(usage)}))
        return b"".join(events) + b"data: [DONE]\n\n"

    def _nothing(self, *, begins: bool) -> dict[str, Any]:
        """What a choice says that says nothing more, or has not said anything yet."""
        return {"delta": {"role": "assistant", "content": ""} if begins else {}}


class TextEnding(Ending):
    """Of a stream of legacy completions."""

    _object, _id_prefix = "text_completion", "cmpl"

    def _nothing(self, *, begins: bool) -> dict[str, Any]:
        return {"text": ""}


def _reported(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
