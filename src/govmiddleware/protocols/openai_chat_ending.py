"""How a chat completion stream is ended before its time: as if the model had reached its output limit."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.openai_usage import says_only_usage

_HEAD = ("id", "object", "created", "model", "service_tier", "system_fingerprint")


class Ending:
    """Follows a stream, and writes the end of it that clients take for a whole answer's.

    Source: what openai-python's `ChatCompletionStreamState` asks of a stream.

    Args:
        with_usage: whether the client asked for usage, and gets the chunk that says it.
    """

    _object, _id_prefix = "chat.completion.chunk", "chatcmpl"

    def __init__(self, *, with_usage: bool) -> None:
        self._no_usage: dict[str, Any] = {"usage": None} if with_usage else {}
        self._owes_usage = with_usage
        self._head: dict[str, Any] = {}
        self._finished: dict[int, bool] = {}

    def note(self, chunk: dict[str, Any]) -> None:
        """One chunk, which the client has got."""
        if says_only_usage(chunk):
            self._owes_usage = False
            return
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index", 0) if isinstance(choice, dict) else None
            if isinstance(index, int):
                self._head = chunk  # the head of the last chunk that said something
                self._finished[index] = self._finished.get(index, False) or bool(choice.get("finish_reason"))

    def write(self, usage: Usage, model: str, request_id: str) -> bytes:
        """The chunks that end each choice, the one with `usage` if it is owed, and `[DONE]`."""
        head = {
            "id": f"{self._id_prefix}-{request_id}",
            "object": self._object,
            "created": int(time.time()),
            "model": model,
            **{name: self._head[name] for name in _HEAD if name in self._head},
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
        if self._owes_usage:
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
