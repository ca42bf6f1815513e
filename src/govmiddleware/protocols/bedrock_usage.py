"""Bedrock's `usage` object, normalised.

Its `inputTokens` are those that the cache had no part in, as Anthropic's are: the whole input is the sum with what was
written to the cache and read from it. Reasoning is inside `outputTokens`, and not told apart. Source:
docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html, and the recordings.
"""

from __future__ import annotations

from typing import Any

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.bedrock_model import model_of
from govmiddleware.protocols.readers import count_or_none, text_or_none


def usage_of(reported: object) -> Usage | None:
    """One `usage` object; None without a believable `inputTokens` and `outputTokens`."""
    if not isinstance(reported, dict):
        return None
    fresh, output = count_or_none(reported.get("inputTokens")), count_or_none(reported.get("outputTokens"))
    if fresh is None or output is None:
        return None
    cached = count_or_none(reported.get("cacheReadInputTokens")) or 0
    written = count_or_none(reported.get("cacheWriteInputTokens")) or 0
    return Usage(
        input_tokens=fresh + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(_kept_for_an_hour(reported), written),
        output_tokens=output,
    )


def tier_of(answer: dict[str, Any]) -> str | None:
    """The tier of service that an answer names; the optimized latency is one, as it has prices of its own."""
    if member_of(answer, "performanceConfig").get("latency") == "optimized":
        return "optimized"
    return text_or_none(member_of(answer, "serviceTier").get("type"))


def routed_to(answer: dict[str, Any]) -> str | None:
    """The model that a router of prompts has chosen; answers of a model do not name it."""
    router = member_of(member_of(answer, "trace"), "promptRouter")
    invoked = text_or_none(router.get("invokedModelId"))
    return None if invoked is None else model_of(invoked)


def _kept_for_an_hour(reported: dict[str, Any]) -> int:
    return sum(
        count_or_none(detail.get("inputTokens")) or 0
        for detail in objects_in(reported.get("cacheDetails"))
        if detail.get("ttl") == "1h"
    )


def member_of(value: dict[str, Any], name: str) -> dict[str, Any]:
    """The object that a member is; an empty one where it is none."""
    member = value.get(name)
    return member if isinstance(member, dict) else {}


def objects_in(value: object) -> list[dict[str, Any]]:
    """The objects in a list, if it is one."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
