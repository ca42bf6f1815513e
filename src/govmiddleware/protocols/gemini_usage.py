"""Gemini's `usageMetadata`, normalised.

`promptTokenCount` includes what came from the cache and leaves out what the results of hosted tools added;
`candidatesTokenCount` leaves out the thoughts. Counts of zero are left out, as in all JSON of protocol buffers.
Source: ai.google.dev/api/generate-content#UsageMetadata, and the recordings.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from msgspec.structs import replace

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.proto_json import elements
from govmiddleware.protocols.readers import count_or_none

_COUNTS = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
)
_IMAGES = ("IMAGE", "DOCUMENT")
"""Pages of documents are read as images."""

_BILLED_BY_ANSWER = re.compile(r"gemini-[12](?!\d)")


def usage_of(answer: dict[str, Any]) -> Usage | None:
    """The usage in an answer or a stream's chunk; None where there is none that can be believed."""
    reported = answer.get("usageMetadata")
    if not isinstance(reported, dict):
        return None
    counts = [count_or_none(reported.get(name, 0)) for name in _COUNTS]
    if None in counts or ("promptTokenCount" not in reported and answer.get("candidates")):
        return None
    prompt, of_tools, cached, said, thought = (count or 0 for count in counts)
    of_input = ("promptTokensDetails", "toolUsePromptTokensDetails")
    return Usage(
        input_tokens=prompt + of_tools,
        cached_tokens=min(cached, prompt),
        output_tokens=said + thought,
        reasoning_tokens=thought,
        input_audio_tokens=_of(reported, of_input, "AUDIO"),
        input_image_tokens=_of(reported, of_input, *_IMAGES),
        input_video_tokens=_of(reported, of_input, "VIDEO"),
        cached_audio_tokens=_of(reported, ("cacheTokensDetails",), "AUDIO"),
        cached_image_tokens=_of(reported, ("cacheTokensDetails",), *_IMAGES),
        output_audio_tokens=_of(reported, ("candidatesTokensDetails",), "AUDIO"),
        output_image_tokens=_of(reported, ("candidatesTokensDetails",), *_IMAGES),
    )


def with_searches(usage: Usage, queries: Collection[object], model: str | None) -> Usage:
    """The usage with what Google Search was asked: each query is billed by the models since Gemini 3, and by those
    before all of one answer as one. Source: ai.google.dev/gemini-api/docs/google-search#pricing."""
    if not queries:
        return usage
    return replace(usage, web_searches=1 if bills_searches_as_one(model) else len(queries))


def bills_searches_as_one(model: str | None) -> bool:
    """Whether all searches for one answer are billed as one."""
    return _BILLED_BY_ANSWER.search(model or "") is not None


def _of(reported: dict[str, Any], lists: tuple[str, ...], *modalities: str) -> int:
    """The tokens of the modalities in lists of `{"modality", "tokenCount"}`."""
    parts = [part for name in lists for part in elements(reported.get(name)) if isinstance(part, dict)]
    return sum(
        count_or_none(part.get("tokenCount")) or 0 for part in parts if part.get("modality") in modalities
    )
