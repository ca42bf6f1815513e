"""Anthropic's `usage` object, normalised.

Its `input_tokens` are those that the cache had no part in: the whole input is the sum with what was written to
the cache and read from it. Thinking is inside `output_tokens`.
"""

from __future__ import annotations

from typing import Any

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.readers import count_or_none

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
    details = reported.get("output_tokens_details")
    thinking = details.get("thinking_tokens") if isinstance(details, dict) else None
    return Usage(
        input_tokens=fresh + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(count_or_none(thinking) or 0, output),
    )


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    return Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        cache_write_tokens=one.cache_write_tokens + other.cache_write_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
    )
