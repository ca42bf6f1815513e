"""The bodies of a mock Ollama: chat and generate, streamed line by line or not, and embeddings. Pure.

A token is a word here, in prompts and answers alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from govmiddleware.testing.words import Json, dump, split, words_in, words_of


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one request of chat or generate, of which JSON and lines are two renderings.

    Attributes:
        chats: whether it is a message, or bare text.
        text: what is said, or the arguments of the tool's call, as JSON text.
        tool: the name of the tool that is called, if one is.
        last: what the end says beside, usage included.
    """

    model: str
    chats: bool
    text: str
    tool: str | None
    last: Json

    def as_json(self) -> bytes:
        """The whole answer."""
        return dump({**self._said(self.text), **self.last})

    def as_lines(self, *, pieces: int) -> Iterator[bytes]:
        """The answer in at most `pieces` lines, and the one that ends it."""
        texts = split(self.text, pieces) if self.tool is None else [self.text]
        for text in texts:
            yield dump({**self._said(text), "done": False}) + b"\n"
        yield dump({**self._part({"content": ""}, ""), **self.last}) + b"\n"

    def _said(self, text: str) -> Json:
        if self.tool is None:
            return self._part({"content": text}, text)
        called = {"function": {"name": self.tool, "arguments": json.loads(text)}}
        return self._part({"content": "", "tool_calls": [called]}, "")

    def _part(self, message: Json, response: str) -> Json:
        head = {"model": self.model, "created_at": "2026-01-01T00:00:00.000000Z"}
        return head | (
            {"message": {"role": "assistant", **message}} if self.chats else {"response": response}
        )


def answer(
    body: Json, *, chats: bool, text: str, tool: str | None, model: str | None, usage: Json | None
) -> Answer:
    """Answer a request with `text`, cut to what it allows.

    Args:
        tool: calls this tool, with `text` as its arguments.
        model: the model that says it has answered; None: the one asked for.
        usage: reported instead of counted words.
    """
    words = words_of(text)
    limit = (body.get("options") or {}).get("num_predict", -1)
    kept = words[:limit] if limit > 0 else words
    counted = {"prompt_eval_count": prompt_tokens(body), "eval_count": len(kept)}
    reason = "stop" if len(kept) == len(words) else "length"
    return Answer(
        model=model or body["model"],
        chats=chats,
        text="".join(kept),
        tool=tool,
        last={"done": True, "done_reason": reason, **(usage or counted)},
    )


def embed(body: Json) -> bytes:
    """The answer to `POST /api/embed`."""
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    vectors = [[0.0, 1.0] for _ in given]
    return dump(
        {"model": body["model"], "embeddings": vectors, "prompt_eval_count": sum(map(words_in, given))}
    )


def error(message: str) -> bytes:
    """Ollama's error envelope."""
    return dump({"error": message})


def prompt_tokens(body: Json) -> int:
    """The words of the prompt, and of all messages."""
    contents = [body.get("system"), body.get("prompt")]
    return sum(
        map(words_in, [*contents, *(message.get("content") for message in body.get("messages") or ())])
    )
