"""The bodies of a mock Bedrock: answers of converse, their streams, errors. Pure.

A token is a word here, in prompts and answers alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from govmiddleware.protocols.bedrock_ending import event
from govmiddleware.protocols.bedrock_invoke import in_frame
from govmiddleware.testing.words import Json, dump, split, words_in, words_of

_LATENCY = {"latencyMs": 12}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one request, of which JSON and frames are two renderings.

    Attributes:
        text: what is said, or the input of the tool, as JSON text.
        tool: the name of the tool that is called, if one is.
        stop_reason: `end_turn`, `tool_use` or `max_tokens`.
        usage: in Bedrock's shape.
    """

    text: str
    tool: str | None
    stop_reason: str
    usage: Json

    def as_json(self) -> bytes:
        """The whole answer."""
        block: Json = {"text": self.text}
        if self.tool is not None:
            whole = self.stop_reason == "tool_use"
            block = {"toolUse": self._called() | {"input": json.loads(self.text) if whole else {}}}
        message = {"role": "assistant", "content": [block]}
        head = {"stopReason": self.stop_reason, "usage": self.usage, "metrics": _LATENCY}
        return dump({"output": {"message": message}, **head})

    def as_frames(self, *, pieces: int) -> Iterator[bytes]:
        """The frames of its events, the text in at most `pieces` deltas. Blocks of text begin with a delta."""
        yield event("messageStart", {"role": "assistant"})
        if self.tool is not None:
            yield event("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": self._called()}})
        for piece in split(self.text, pieces):
            delta: Json = {"text": piece} if self.tool is None else {"toolUse": {"input": piece}}
            yield event("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta})
        yield event("contentBlockStop", {"contentBlockIndex": 0})
        yield event("messageStop", {"stopReason": self.stop_reason})
        yield event("metadata", {"usage": self.usage, "metrics": _LATENCY})

    def _called(self) -> Json:
        return {"toolUseId": "tooluse_1", "name": self.tool}


def answer(body: Json, *, text: str, tool: str | None, usage: Json | None) -> Answer:
    """Answer a request with `text`, cut to what the request allows.

    Args:
        tool: calls this tool, with `text` as its input.
        usage: reported instead of counted words.
    """
    words = words_of(text)
    kept = words[: (body.get("inferenceConfig") or {}).get("maxTokens")]
    whole = "end_turn" if tool is None else "tool_use"
    return Answer(
        text="".join(kept),
        tool=tool,
        stop_reason=whole if len(kept) == len(words) else "max_tokens",
        usage=usage or counted_usage(prompt_tokens(body), len(kept)),
    )


def as_chunks(events: Iterable[bytes]) -> Iterator[bytes]:
    """Server-sent events of Anthropic's as the frames of `invoke-with-response-stream`."""
    return (in_frame(json.loads(event.partition(b"data: ")[2])) for event in events)


def count(body: Json) -> bytes:
    """The answer to `count-tokens`."""
    return dump({"inputTokens": prompt_tokens(body["input"]["converse"])})


def error(message: str) -> bytes:
    """AWS's error envelope, whose kind is in a header."""
    return dump({"message": message})


def counted_usage(prompt: int, output: int) -> Json:
    """`usage`."""
    return {"inputTokens": prompt, "outputTokens": output, "totalTokens": prompt + output}


def prompt_tokens(body: Json) -> int:
    """The words of the system prompt and all messages."""
    blocks: list[Any] = [body.get("system"), *(message["content"] for message in body["messages"])]
    return sum(map(words_in, blocks))
