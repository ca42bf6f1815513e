"""The bodies of a mock Gemini: answers, their streams, counted tokens, embeddings. Pure.

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
    """One answer to one request, of which JSON, events and an array are three renderings.

    Attributes:
        text: what is said, or the arguments of the function's call, as JSON text.
        tool: the name of the function that is called, if one is.
        finish_reason: `STOP` or `MAX_TOKENS`.
        usage: in Gemini's shape.
    """

    id: str
    model: str
    text: str
    tool: str | None
    finish_reason: str
    usage: Json

    def as_json(self) -> bytes:
        """The whole answer."""
        return dump(self._chunk(self.text, self.usage, self.finish_reason))

    def as_chunks(self, *, pieces: int) -> Iterator[bytes]:
        """The answer in at most `pieces` chunks, each an answer of its own that says what was used so far. A call
        of a function comes in one."""
        texts = list(split(self.text, pieces)) if self.tool is None else [self.text]
        for number, text in enumerate(texts or [""], start=1):
            if number >= len(texts):
                yield dump(self._chunk(text, self.usage, self.finish_reason))
            else:
                said = sum(len(words_of(each)) for each in texts[:number])
                yield dump(self._chunk(text, counted_usage(self.usage["promptTokenCount"], said), None))

    def as_events(self, *, pieces: int) -> Iterator[bytes]:
        """With `alt=sse`."""
        return (b"data: " + chunk + b"\r\n\r\n" for chunk in self.as_chunks(pieces=pieces))

    def as_array(self, *, pieces: int) -> Iterator[bytes]:
        """Without."""
        for number, chunk in enumerate(self.as_chunks(pieces=pieces)):
            yield (b",\r\n" if number else b"[") + chunk
        yield b"]"

    def _chunk(self, text: str, usage: Json, finish_reason: str | None) -> Json:
        part: Json = {"text": text}
        if self.tool is not None:
            whole = self.finish_reason == "STOP"
            part = {"functionCall": {"name": self.tool, "args": json.loads(text) if whole else {}}}
        candidate: Json = {"content": {"parts": [part], "role": "model"}, "index": 0}
        if finish_reason is not None:
            candidate["finishReason"] = finish_reason
        head = {"modelVersion": self.model, "responseId": self.id}
        return {"candidates": [candidate], "usageMetadata": usage, **head}


def answer(
    body: Json, *, asked: str, text: str, tool: str | None, model: str | None, usage: Json | None
) -> Answer:
    """Answer a request with `text`, cut to what the request allows.

    Args:
        asked: the model in the address.
        tool: calls this function, with `text` as its arguments.
        model: the model that says it has answered; None: the one asked for.
        usage: reported instead of counted words.
    """
    words = words_of(text)
    kept = words[: (body.get("generationConfig") or {}).get("maxOutputTokens")]
    return Answer(
        id=secrets.token_urlsafe(16),
        model=model or asked,
        text="".join(kept),
        tool=tool,
        finish_reason="STOP" if len(kept) == len(words) else "MAX_TOKENS",
        usage=usage or counted_usage(prompt_tokens(body), len(kept)),
    )


def count(body: Json) -> bytes:
    """The answer to `:countTokens`."""
    return dump({"totalTokens": prompt_tokens(body)})


def embed(body: Json) -> bytes:
    """The answer to `:batchEmbedContents`, which does not say what was used."""
    return dump({"embeddings": [{"values": [0.0, 1.0]} for _ in body["requests"]]})


def list_models(models: tuple[str, ...]) -> bytes:
    """The answer to `GET /models`."""
    return dump({"models": [{"name": f"models/{model}", "displayName": model} for model in models]})


def error(message: str, *, code: int, status: str) -> bytes:
    """Google's error envelope."""
    return dump({"error": {"code": code, "message": message, "status": status}})


def counted_usage(prompt: int, output: int) -> Json:
    """`usageMetadata`."""
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": output,
        "totalTokenCount": prompt + output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
    }


def prompt_tokens(body: Json) -> int:
    """The words of the system prompt and all contents."""
    contents = [body.get("systemInstruction") or {}, *body["contents"]]
    return sum(words_in(content.get("parts")) for content in contents)
