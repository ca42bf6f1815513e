"""The bodies of a mock OpenAI-compatible provider: completions, their streams, embeddings. Pure.

A token is a word here, in prompts and answers alike.
"""

from __future__ import annotations

import base64
import random
import secrets
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from govmiddleware.testing.words import Json, dump, split, words_in, words_of

SYSTEM_FINGERPRINT = "fp_5b26d85e12"
_EMBEDDING_DIMENSIONS = 1536


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer to one chat request, of which JSON and events are two renderings.

    Attributes:
        text: of each choice, or the arguments of the tool's call, as JSON text.
        tool: the name of the function that is called, if one is.
        finish_reason: `stop`, `length` or `tool_calls`.
        usage: in OpenAI's shape.
    """

    id: str
    created: int
    model: str
    choices: int
    text: str
    tool: str | None
    finish_reason: str
    usage: Json

    def as_json(self) -> bytes:
        """The whole answer."""
        message: Json = {"role": "assistant", "content": self.text, "refusal": None, "annotations": []}
        if self.tool is not None:
            message |= {"content": None, "tool_calls": [self._tool_call(self.tool, self.text)]}
        choices = [
            {"index": index, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
            for index in range(self.choices)
        ]
        return dump({**self._head("chat.completion"), "choices": choices, "usage": self.usage})

    def as_events(
        self, *, pieces: int, include_usage: bool, continuous_usage: bool = False
    ) -> Iterator[bytes]:
        """The answer as server-sent events, the text of each choice in at most `pieces` of them.

        With `include_usage` every chunk says `"usage": null`, and one more, without choices, carries
        it; without it no chunk mentions usage. With `continuous_usage` each says what was used so far, as
        vLLM's do where its `continuous_usage_stats` are asked for.
        """
        head = self._head("chat.completion.chunk")
        so_far: Json = {"usage": None} if include_usage else {}
        said = 0
        for delta, finish_reason in self._deltas(pieces):
            if continuous_usage:
                said += words_in(delta.get("content"))
                so_far = {"usage": {**self.usage, "completion_tokens": said}}
            for index in range(self.choices):
                choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
                yield _event({**head, "choices": [choice], **so_far})
        if include_usage:
            yield _event({**head, "choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    def _deltas(self, pieces: int) -> Iterator[tuple[Json, str | None]]:
        if self.tool is None:
            yield {"role": "assistant", "content": "", "refusal": None}, None
            for piece in split(self.text, pieces):
                yield {"content": piece}, None
        else:
            start = {"index": 0, **self._tool_call(self.tool, "")}
            yield {"role": "assistant", "content": None, "tool_calls": [start], "refusal": None}, None
            for piece in split(self.text, pieces):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None
        yield {}, self.finish_reason

    def _tool_call(self, name: str, arguments: str) -> Json:
        function = {"name": name, "arguments": arguments}
        return {"id": f"call_{self.id[-24:]}", "type": "function", "function": function}

    def _head(self, kind: str) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": SYSTEM_FINGERPRINT,
        }


def complete(body: Json, *, text: str, tool: str | None, model: str | None, usage: Json | None) -> Completion:
    """Answer a chat request with `text`, cut to what the request allows.

    Args:
        tool: calls this function, with `text` as its arguments.
        model: the model that says it has answered; None: the one asked for.
        usage: reported instead of counted words.
    """
    words = words_of(text)
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    kept = words if most is None else words[:most]
    choices = body.get("n") or 1
    finished = "stop" if tool is None else "tool_calls"
    return Completion(
        id=f"chatcmpl-{secrets.token_hex(15)[:29]}",
        created=int(time.time()),
        model=model or body["model"],
        choices=choices,
        text="".join(kept),
        tool=tool,
        finish_reason=finished if len(kept) == len(words) else "length",
        usage=usage or counted_usage(prompt_tokens(body["messages"]), len(kept) * choices),
    )


def embed(body: Json, *, model: str | None, usage: Json | None) -> bytes:
    """Answer an embeddings request with vectors that depend on the input alone."""
    inputs = body["input"]
    if isinstance(inputs, str) or (inputs and isinstance(inputs[0], int)):
        inputs = [inputs]
    dimensions = body.get("dimensions") or _EMBEDDING_DIMENSIONS
    data = []
    for index, item in enumerate(inputs):
        rng = random.Random(str(item))
        vector: list[float] | str = [rng.uniform(-0.05, 0.05) for _ in range(dimensions)]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode("ascii")
        data.append({"object": "embedding", "index": index, "embedding": vector})
    tokens = sum(len(words_of(item)) if isinstance(item, str) else len(item) for item in inputs)
    return dump(
        {
            "object": "list",
            "data": data,
            "model": model or body["model"],
            "usage": usage or {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def moderate(body: Json) -> bytes:
    """Answer a moderations request: nothing is ever flagged."""
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    results = [{"flagged": False, "categories": {}, "category_scores": {}} for _ in inputs]
    model = body.get("model") or "omni-moderation-latest"
    return dump({"id": f"modr-{secrets.token_hex(12)}", "model": model, "results": results})


def list_models(models: tuple[str, ...]) -> bytes:
    """The answer to `GET /models`."""
    data = [{"id": model, "object": "model", "created": 1715367049, "owned_by": "system"} for model in models]
    return dump({"object": "list", "data": data})


def error(message: str, *, kind: str = "invalid_request_error", code: str | None = None) -> bytes:
    """OpenAI's error envelope."""
    return dump({"error": {"message": message, "type": kind, "param": None, "code": code}})


def counted_usage(prompt: int, completion: int) -> Json:
    """A chat answer's `usage`."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def prompt_tokens(messages: list[Json]) -> int:
    """The words in all messages."""
    return sum(words_in(message.get("content")) for message in messages)


def _event(value: Json) -> bytes:
    return b"data: " + dump(value) + b"\n\n"
