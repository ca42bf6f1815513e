"""Anthropic's `usage` object, normalised.

Its `input_tokens` are those that the cache had no part in: the whole input is the sum with what was written to
the cache and read from it. Thinking is inside `output_tokens`.
"""

from __future__ import annotations

from typing import Any

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.readers import count_or_none, text_or_none

_BILLED_APART = frozenset({"compaction", "advisor_message"})
"""Kinds of `iterations` that the figures at the top leave out, though they are billed (BetaUsage in
anthropic-sdk-python; the recordings)."""


def usage_of(reported: object) -> Usage | None:
    """One `usage` object; None without a believable `input_tokens` and `output_tokens`."""
    if not isinstance(reported, dict):
        return None
    usage = _read(reported)
    iterations = reported.get("iterations")
    for iteration in iterations if isinstance(iterations, list) else ():
        if isinstance(iteration, dict) and iteration.get("type") in _BILLED_APART:
            usage = _sum(usage, _read(iteration))
    return usage


def _read(reported: dict[str, Any]) -> Usage | None:
    fresh = count_or_none(reported.get("input_tokens"))
    output = count_or_none(reported.get("output_tokens"))
    if fresh is None or output is None:
        return None
    cached = count_or_none(reported.get("cache_read_input_tokens")) or 0
    written = count_or_none(reported.get("cache_creation_input_tokens")) or 0
    kept = _member(reported, "cache_creation").get("ephemeral_1h_input_tokens")
    thinking = _member(reported, "output_tokens_details").get("thinking_tokens")
    searches = _member(reported, "server_tool_use").get("web_search_requests")
    return Usage(
        input_tokens=fresh + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(count_or_none(thinking) or 0, output),
        cache_write_1h_tokens=min(count_or_none(kept) or 0, written),
        web_searches=count_or_none(searches) or 0,
    )


def tier_of(reported: object) -> str | None:
    """The tier of service that a `usage` object names; the fast mode is one."""
    if not isinstance(reported, dict):
        return None
    return "fast" if reported.get("speed") == "fast" else text_or_none(reported.get("service_tier"))


def _member(reported: dict[str, Any], name: str) -> dict[str, Any]:
    member = reported.get(name)
    return member if isinstance(member, dict) else {}


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    return one + other if one and other else one or other
