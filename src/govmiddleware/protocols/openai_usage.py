"""OpenAI's `usage` object, and its dialects at other providers, normalised.

`prompt_tokens` includes cached and cache-write tokens, and `completion_tokens` includes reasoning, but for xAI. Providers
differ in where they say how much of the prompt came from the cache.
"""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.fields import read
from govmiddleware.protocols.readers import counts_in

_TOTALS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
"""All that many servers say."""


def ask_for_usage(body: RequestBody) -> bool:
    """Have a stream report its usage; whether the request had to be edited for it."""
    if "stream" not in body.fields or not read(body, "stream", bool):
        return False
    options = read(body, "stream_options", dict[str, msgspec.Raw]) or {}
    if bytes(options.get("include_usage", b"")) == b"true":
        return False
    body.set("stream_options", {**options, "include_usage": True})
    return True


def usage_of(answer: dict[str, Any]) -> Usage | None:
    """The usage in an answer or a stream's chunk; None where there is none that can be believed."""
    reported = answer.get("usage")
    if not isinstance(reported, dict):
        groq = answer.get("x_groq")  # Groq's streams, where include_usage was not asked for
        reported = groq.get("usage") if isinstance(groq, dict) else None
    return read_usage(reported) if isinstance(reported, dict) else None


def read_usage(reported: dict[str, Any]) -> Usage | None:
    """One `usage` object; None without a believable `prompt_tokens`."""
    counts = counts_in(reported)
    prompt = counts.get("prompt_tokens")
    completion = counts.get("completion_tokens", None if "completion_tokens" in reported else 0)
    if prompt is None or completion is None:
        return None
    if reported.keys() <= _TOTALS:
        return Usage(input_tokens=prompt, output_tokens=completion)
    of_prompt = counts_in(reported.get("prompt_tokens_details"))
    of_completion = counts_in(reported.get("completion_tokens_details"))
    cached = counts.get("num_cached_tokens", 0)  # Mistral
    cached = counts.get("cached_tokens", cached)  # Moonshot
    cached = counts.get("prompt_cache_hit_tokens", cached)  # DeepSeek
    cached = of_prompt.get("cached_tokens", cached)
    written = of_prompt.get("cache_write_tokens", of_prompt.get("cache_creation_tokens", 0))
    written, written_1h = min(written, prompt), 0
    if written:
        of_written = counts_in(reported["prompt_tokens_details"].get("cache_creation_token_details"))
        written_1h = of_written.get("ephemeral_1h_input_tokens", 0)  # LiteLLM
    searches = of_prompt.get("web_search_requests", 0)  # LiteLLM, of Gemini and xAI
    for tool_use in ("server_tool_use", "server_tool_use_details"):  # LiteLLM, of Anthropic; OpenRouter
        if tool_use in reported:
            searches = counts_in(reported[tool_use]).get("web_search_requests", searches)
    searches = counts.get("num_search_queries", searches)  # Perplexity
    reasoning = of_completion.get("reasoning_tokens", 0)
    if reasoning and counts.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # xAI counts it beside the completion, and in the total alone
    # A part can not exceed its whole. Two parts can overlap: OpenRouter reports tokens of Gemini's cache as
    # both read and written; what that costs is for `ModelPrice.cost` to say.
    return Usage(
        input_tokens=prompt,
        cached_tokens=min(cached, prompt),
        cache_write_tokens=written,
        cache_write_1h_tokens=min(written_1h, written),
        output_tokens=completion,
        reasoning_tokens=min(reasoning, completion),
        input_audio_tokens=min(of_prompt.get("audio_tokens", 0), prompt),
        input_image_tokens=min(of_prompt.get("image_tokens", 0), prompt),
        web_searches=searches,
        output_audio_tokens=min(of_completion.get("audio_tokens", 0), completion),
        output_image_tokens=min(of_completion.get("image_tokens", 0), completion),
    )


def says_only_usage(chunk: dict[str, Any]) -> bool:
    """Whether this is the extra chunk: without choices at OpenAI, with empty ones at LiteLLM. One that
    carries anything else keeps its usage with it."""
    choices = chunk.get("choices")
    return (
        isinstance(chunk.get("usage"), dict)
        and isinstance(choices, list)
        and all(isinstance(choice, dict) and _is_empty(choice) for choice in choices)
    )


def _is_empty(choice: dict[str, Any]) -> bool:
    return choice.get("delta") == {} and not any(
        value for name, value in choice.items() if name not in ("index", "delta")
    )
