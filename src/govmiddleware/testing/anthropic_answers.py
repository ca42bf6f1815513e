"""The bodies of a mock Anthropic: messages, their streams, counted tokens. Pure.

A token is a word here, in prompts and answers alike.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from govmiddleware.testing.words import Json, dump, split, words_in, words_of


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one messages request, of which JSON and events are two renderings.

    Attributes:
        text: what is said, or the input of the tool's call, as JSON text.
        tool: the name of the tool that is called, if one is.
        thinking: what was thought before; empty: nothing.
        stop_reason: `end_turn`, `max_tokens` or `tool_use`.
        usage: in Anthropic's shape.
    """

    id: str
    model: str
    text: str
    tool: str | None
    thinking: str
    stop_reason: str
    usage: Json

    def as_json(self) -> bytes:
        """The whole answer."""
        content: list[Json] = []
        if self.thinking:
            content.append({"type": "thinking", "thinking": self.thinking, "signature": self._signature()})
        if self.tool is None:
            content.append({"type": "text", "text": self.text})
        else:
            whole = self.stop_reason == "tool_use"
            content.append(self._tool_use(self.tool) | {"input": json.loads(self.text) if whole else {}})
        return dump(
            {**self._head(), "content": content, "stop_reason": self.stop_reason, "usage": self.usage}
        )

    def as_events(self, *, pieces: int) -> Iterator[bytes]:
        """The answer as server-sent events, each block in at most `pieces` deltas.

        The first event says what the input was, the last but one what the output is, cumulative.
        """
        started = {**self.usage, "output_tokens": 1}
        yield _event({"type": "message_start", "message": {**self._head(), "content": [], "usage": started}})
        yield _event({"type": "ping"})
        index = 0
        if self.thinking:
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in split(self.thinking, pieces)]
            deltas.append({"type": "signature_delta", "signature": self._signature()})
            yield from _block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)
            index += 1
        if self.tool is None:
            deltas = [{"type": "text_delta", "text": piece} for piece in split(self.text, pieces)]
            yield from _block(index, {"type": "text", "text": ""}, deltas)
        else:
            texts = ["", *split(self.text, pieces)]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in texts]
            yield from _block(index, self._tool_use(self.tool) | {"input": {}}, deltas)
        delta = {"stop_reason": self.stop_reason, "stop_sequence": None}
        yield _event({"type": "message_delta", "delta": delta, "usage": self.usage})
        yield _event({"type": "message_stop"})

    def _head(self) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _tool_use(self, name: str) -> Json:
        return {"type": "tool_use", "id": f"toolu_{self.id[-24:]}", "name": name}

    def _signature(self) -> str:
        return f"signed-{self.id}"


def answer(
    body: Json, *, text: str, tool: str | None, thinking: str, model: str | None, usage: Json | None
) -> Answer:
    """Answer a messages request with `text`, cut to what the request allows, after `thinking` where it asks
    for that.

    Args:
        tool: calls this tool, with `text` as its input.
        model: the model that says it has answered; None: the one asked for.
        usage: reported instead of counted words.
    """
    asked = (body.get("thinking") or {}).get("type", "disabled") != "disabled"
    thoughts = words_of(thinking)[: body["max_tokens"]] if asked else []
    words = words_of(text)
    kept = words[: body["max_tokens"] - len(thoughts)]
    finished = "end_turn" if tool is None else "tool_use"
    return Answer(
        id=f"msg_{secrets.token_hex(12)}",
        model=model or body["model"],
        text="".join(kept),
        tool=tool,
        thinking="".join(thoughts),
        stop_reason=finished if len(kept) == len(words) else "max_tokens",
        usage=usage or counted_usage(prompt_tokens(body), len(thoughts) + len(kept)),
    )


def count(body: Json) -> bytes:
    """The answer to `POST /messages/count_tokens`."""
    return dump({"input_tokens": prompt_tokens(body)})


def list_models(models: tuple[str, ...]) -> bytes:
    """The answer to `GET /models`."""
    data = [
        {"id": model, "type": "model", "display_name": model, "created_at": "2026-01-01T00:00:00Z"}
        for model in models
    ]
    return dump({"data": data, "has_more": False, "first_id": models[0], "last_id": models[-1]})


def error(message: str, *, kind: str = "invalid_request_error") -> bytes:
    """Anthropic's error envelope."""
    details = {"type": kind, "message": message}
    return dump({"type": "error", "error": details, "request_id": f"req_{secrets.token_hex(12)}"})


def counted_usage(prompt: int, output: int) -> Json:
    """A message's `usage`."""
    return {
        "input_tokens": prompt,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output,
        "service_tier": "standard",
    }


def prompt_tokens(body: Json) -> int:
    """The words of the system prompt and all messages."""
    contents = [body.get("system"), *(message.get("content") for message in body["messages"])]
    return sum(map(words_in, contents))


def _block(index: int, start: Json, deltas: list[Json]) -> Iterator[bytes]:
    yield _event({"type": "content_block_start", "index": index, "content_block": start})
    for delta in deltas:
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
    yield _event({"type": "content_block_stop", "index": index})


def _event(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: ".encode() + dump(event) + b"\n\n"
