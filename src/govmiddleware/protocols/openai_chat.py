"""OpenAI's chat completions, as OpenAI and everyone who speaks its dialect serve them.

POST …/chat/completions. Source: platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.protocols.escapes import (
    DEAR_MODES,
    asks_for_an_hour,
    may_cache_for_an_hour,
    read_service_tier,
    refuse_dear_modes,
    refuse_other_output_limits,
)
from govmiddleware.protocols.fields import LARGEST_TOKEN_LIMIT, Object, Objects, read, read_count
from govmiddleware.protocols.large_json import plain_texts
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.openai_chat_reader import JsonReader, StreamReader
from govmiddleware.protocols.openai_models import wants_completion_limit
from govmiddleware.protocols.openai_prompt import MESSAGE_TOKENS, ChatPrompt
from govmiddleware.protocols.openai_usage import ask_for_usage
from govmiddleware.protocols.openai_user import read_user
from govmiddleware.protocols.prompt import SEARCHES, read_history

MOST_CHOICES = 128

HIDING = ("include_reasoning", "reasoning_format", "reasoning", "modalities", "audio")
"""Fields by which a client can have output generated that is not shown as text: reasoning (Groq, OpenRouter), sound."""

JUDGED = frozenset(
    {
        "model",
        "messages",
        "tools",
        "functions",
        "response_format",
        "prediction",
        "stream",
        "stream_options",
        "n",
        "best_of",
        "max_tokens",
        "max_completion_tokens",
        "user",
        "safety_identifier",
        "metadata",
        "web_search_options",
        "service_tier",
        *DEAR_MODES,
        *OTHER_MODELS,
    }
)
"""The fields that decide what a call costs or whom it counts for."""

SETTINGS = frozenset(
    {
        "audio", "cache_control", "frequency_penalty", "function_call", "include_reasoning", "logit_bias",
        "logprobs", "metadata", "min_p", "modalities", "parallel_tool_calls", "presence_penalty",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "provider", "reasoning",
        "reasoning_effort", "reasoning_format", "repetition_penalty", "route", "seed", "stop", "store",
        "stream_options", "temperature", "thinking", "tool_choice", "top_a", "top_k", "top_logprobs",
        "top_p", "transforms", "usage", "verbosity",
    }
)  # fmt: skip
"""Fields that steer and are not said, at OpenAI and those who speak its dialect. What is neither here nor
judged is counted as if it were prompt, which is what vLLM makes of `documents`, for one."""

_KNOWN = JUDGED | SETTINGS

_PLAIN = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens",
        "frequency_penalty", "logit_bias", "logprobs", "parallel_tool_calls", "presence_penalty",
        "prompt_cache_key", "reasoning_effort", "seed", "stop", "store", "temperature", "top_k",
        "top_logprobs", "top_p", "verbosity",
    }
)  # fmt: skip
"""All that most requests have: what is said, its limits, and settings that neither cost nor say anything. Where there is
nothing else, nothing else is looked for."""


class OpenAIChat(OpenAIRoute):
    """The WireProtocol `openai.chat`."""

    name = "openai.chat"
    history = "messages"
    preamble = ("tools",)

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/chat/completions")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        model = read_model(body, path, query)
        plain = plain_texts(body.raw("messages") or b"") if "messages" not in body.parts else None
        prompt = ChatPrompt(model)
        if plain is None:
            _add_messages(body, prompt)
        else:
            prompt.add_plain(plain, MESSAGE_TOKENS)
        if ("reasoning" in body.fields and _thinks(body)) or model.endswith(":thinking"):
            prompt.add_thinking()
        if "stream_options" in body.fields:
            read(body, "stream_options", Object)
        more = _PLAINLY if body.fields.keys() <= _PLAIN else _read_more(body, prompt)
        return RequestInfo(
            model=model,
            stream="stream" in body.fields and bool(read(body, "stream", bool)),
            output_tokens=_read_output_limit(body),
            choices=more.choices,
            overhead_tokens=prompt.overhead_tokens,
            texts=prompt.texts,
            known_tokens=prompt.known_tokens,
            known_bytes=prompt.known_bytes,
            new_parts=prompt.new_parts,
            unknown_parts=prompt.unknown_parts,
            user=more.user,
            predicted_texts=more.predicted,
            # What is rejected of a prediction is billed too.
            hides_output=True if more.predicted or more.hides_output else None,
            reach=Reach(
                media=prompt.has_media,
                cache_1h=prompt.caches_for_an_hour,
                service_tier=more.service_tier,
                beside_tokens=prompt.searches,
            ),
        )

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        named = [
            name for name in ("max_tokens", "max_completion_tokens") if read(body, name, int) is not None
        ]
        if not named:
            modern = wants_completion_limit(read(body, "model", str) or "")
            named = ["max_completion_tokens" if modern else "max_tokens"]
        for name in named:
            body.set(name, tokens)

    def request_usage(self, body: RequestBody) -> bool:
        return ask_for_usage(body)

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        if not stream:
            return JsonReader()
        return StreamReader(strip_usage=usage_was_injected, may_be_cut=may_be_cut)


class _More(NamedTuple):
    """What a request may ask for beside a plain answer."""

    choices: int = 1
    user: str | None = None
    predicted: Sequence[str] = ()
    hides_output: bool = False
    service_tier: str | None = None


_PLAINLY = _More()


def _add_messages(body: RequestBody, prompt: ChatPrompt) -> None:
    messages = read_history(body, "messages")
    if messages is None:
        raise InvalidRequest("'messages' is missing.", param="messages")
    parts = body.parts.get("messages", ())
    prompt.add_messages(messages, parts)
    if not parts:
        prompt.caches_for_an_hour = asks_for_an_hour(body.fields["messages"])


def _read_more(body: RequestBody, prompt: ChatPrompt) -> _More:
    """What is said in other fields than the messages is added to the prompt. Raises InvalidRequest."""
    refuse_dear_modes(body)
    refuse_other_output_limits(body)
    _add_tools(body, prompt)
    prompt.add_unknown_fields(body, _KNOWN)
    if may_cache_for_an_hour(body, but=("messages", *body.parts)):
        prompt.caches_for_an_hour = True
    return _More(
        choices=max(
            read_count(body, "n", least=1, most=MOST_CHOICES) or 1,
            read_count(body, "best_of", least=1, most=MOST_CHOICES) or 1,
        ),
        user=read_user(body),
        predicted=_predicted(body),
        hides_output=not body.fields.keys().isdisjoint(HIDING),
        service_tier=read_service_tier(body),
    )


def _read_output_limit(body: RequestBody) -> int | None:
    """The larger of both names where both are given: which one an upstream heeds differs. Zero is refused:
    there are upstreams that take it for no limit."""
    older = read_count(body, "max_tokens", least=1, most=LARGEST_TOKEN_LIMIT)
    if "max_completion_tokens" not in body.fields:
        return older
    newer = read_count(body, "max_completion_tokens", least=1, most=LARGEST_TOKEN_LIMIT)
    if older is None or newer is None:
        return newer if older is None else older
    return max(older, newer)


def _add_tools(body: RequestBody, prompt: ChatPrompt) -> None:
    forced = read(body, "tool_choice", object) not in (None, "auto", "none")
    for name in ("tools", "functions"):
        if prompt.add_field(body, name, Objects, prompt.add_tools):
            prompt.add_namespace(forced=forced)
    response_format = read(body, "response_format", Object)
    if response_format is not None and "json_schema" in response_format:
        prompt.add_format(response_format["json_schema"])
    if _searches(body):
        prompt.unknown_parts += 1  # what the search finds becomes prompt
        prompt.searches += Usage(web_searches=SEARCHES)


def _thinks(body: RequestBody) -> bool:
    """Whether the request asks for thinking, as OpenRouter has it."""
    reasoning = read(body, "reasoning", object)
    if not isinstance(reasoning, dict):
        return False
    return reasoning.get("effort") != "none" and reasoning.get("enabled") is not False


def _searches(body: RequestBody) -> bool:
    return body.raw("web_search_options") not in (None, b"null")


def _predicted(body: RequestBody) -> Sequence[str]:
    """What of `prediction` may be billed as output although it was not said."""
    if "prediction" not in body.fields:
        return ()
    predicted = ChatPrompt("")
    predicted.add(read(body, "prediction", Object))
    return predicted.texts
