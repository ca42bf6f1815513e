"""Ollama's own API: chat, generate, embeddings, and what is known of a model.

POST …/api/chat, …/api/generate, …/api/embed, …/api/embeddings, …/api/show.
Source: github.com/ollama/ollama, docs/api.md and api/types.go.
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach
from govmiddleware.protocols.fields import LARGEST_TOKEN_LIMIT, Elements, Object, Objects, read
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.ollama_base import OllamaRoute
from govmiddleware.protocols.openai_prompt import ChatPrompt
from govmiddleware.protocols.readers import NothingUsed

JUDGED = frozenset(
    {
        "model",
        "messages",
        "prompt",
        "system",
        "suffix",
        "template",
        "images",
        "context",
        "tools",
        "input",
        "stream",
        "options",
        *OTHER_MODELS,
    }
)
"""The fields that decide what a call costs. Ollama is written in Go, and matches them without case."""

SETTINGS = frozenset(
    {"dimensions", "format", "keep_alive", "logprobs", "raw", "shift", "think", "top_logprobs", "truncate"}
)
"""Fields that steer and are not said. What is neither here nor judged is counted as if it were prompt."""


class _Prompt(ChatPrompt):
    """Collects what one request puts before the model."""

    def _said(self, part: dict[str, Any]) -> list[Any]:
        images = part.get("images")
        if isinstance(images, list):
            self.unknown_parts += len(images)
            part = {name: member for name, member in part.items() if name != "images"}
        return super()._said(part)


class OllamaGenerate(OllamaRoute):
    """The WireProtocol `ollama.chat` or `ollama.generate`. They stream unless they are told not to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paths = ("/api/" + name.partition(".")[2],)

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        model = read_model(body, path, query)
        prompt = _Prompt(model)
        prompt.add_messages(read(body, "messages", Elements) or [])
        if prompt.add_field(body, "tools", Objects, prompt.add_tools):
            prompt.add_namespace()
        for name in ("prompt", "system", "suffix", "template"):
            prompt.add(read(body, name, str))
        prompt.unknown_parts += len(read(body, "images", list[str]) or [])
        prompt.add_unknown_fields(body, JUDGED | SETTINGS)
        streams = read(body, "stream", bool)
        return RequestInfo(
            model=model,
            stream=streams is None or streams,
            output_tokens=_output_limit(body),
            needs_limit=True,
            overhead_tokens=prompt.overhead_tokens,
            input_tokens=len(read(body, "context", list[int]) or []),
            texts=prompt.texts,
            unknown_parts=prompt.unknown_parts,
            reach=Reach(media=prompt.has_media),
        )

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        body.set("options", {**_options(body), "num_predict": tokens})


class OllamaEmbed(OllamaRoute):
    """The WireProtocol `ollama.embed`, also by its older name: no output, no streams."""

    name = "ollama.embed"
    paths = ("/api/embed", "/api/embeddings")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        prompt = _Prompt("")
        prompt.overhead_tokens = 0
        for name in ("input", "prompt"):
            prompt.add(read(body, name, object))
        return RequestInfo(model=read_model(body, path, query), generates=False, texts=prompt.texts)


class OllamaShow(OllamaRoute):
    """The WireProtocol `ollama.show`: what is known of a model, which costs nothing."""

    name = "ollama.show"
    paths = ("/api/show",)

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        return RequestInfo(model=read_model(body, path, query), generates=False, free=True)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return NothingUsed()


def _options(body: RequestBody) -> dict[str, msgspec.Raw]:
    return read(body, "options", dict[str, msgspec.Raw]) or {}


def _output_limit(body: RequestBody) -> int | None:
    """`num_predict`; none where it says that there is none. Raises InvalidRequest."""
    limit = (read(body, "options", Object) or {}).get("num_predict")
    if limit is not None and (type(limit) is not int or limit > LARGEST_TOKEN_LIMIT):
        raise InvalidRequest("'num_predict' must be a whole number.", param="options.num_predict")
    return limit if limit is not None and limit > 0 else None
