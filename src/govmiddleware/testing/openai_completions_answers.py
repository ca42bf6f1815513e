"""The bodies of a mock of OpenAI's legacy completions, and their streams. Pure. A token is a word here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from govmiddleware.testing.openai_answers import counted_usage
from govmiddleware.testing.words import Json, dump, split, words_of


@dataclass(frozen=True, slots=True)
class TextCompletion:
    """One answer, of which JSON and events are two renderings: the same text for each choice."""

    id: str
    created: int
    model: str
    choices: int
    text: str
    finish_reason: str
    usage: Json

    def as_json(self) -> bytes:
        """The whole answer."""
        choices = [self._choice(index, self.text, self.finish_reason) for index in range(self.choices)]
        return dump({**self._head(), "choices": choices, "usage": self.usage})

    def as_events(self, *, pieces: int, include_usage: bool) -> Iterator[bytes]:
        """The answer as server-sent events; with `include_usage` as in chat completions."""
        no_usage: Json = {"usage": None} if include_usage else {}
        for piece in [*split(self.text, pieces), ""]:
            for index in range(self.choices):
                choice = self._choice(index, piece, None if piece else self.finish_reason)
                yield _event({**self._head(), "choices": [choice], **no_usage})
        if include_usage:
            yield _event({**self._head(), "choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    def _choice(self, index: int, text: str, finish_reason: str | None) -> Json:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}

    def _head(self) -> Json:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}


def complete(body: Json, *, text: str, model: str | None, usage: Json | None) -> TextCompletion:
    """Answer a request with `text`, cut to what the request allows."""
    prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    words = words_of(text)
    kept = words[: body.get("max_tokens")]
    choices = len(prompts) * (body.get("n") or 1)
    return TextCompletion(
        id=f"cmpl-{secrets.token_hex(15)[:29]}",
        created=int(time.time()),
        model=model or body["model"],
        choices=choices,
        text="".join(kept),
        finish_reason="stop" if len(kept) == len(words) else "length",
        usage=usage or counted_usage(sum(len(words_of(str(each))) for each in prompts), len(kept) * choices),
    )


def _event(value: Json) -> bytes:
    return b"data: " + dump(value) + b"\n\n"
