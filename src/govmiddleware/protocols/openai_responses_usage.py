"""The usage in OpenAI's `response` object, normalised. Tokens are in `usage`; what hosted tools did is beside it."""

from __future__ import annotations

from typing import Any

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.readers import count_or_none


def usage_of(response: dict[str, Any]) -> Usage | None:
    """The usage of a response; None where it has none that can be believed."""
    reported = response.get("usage")
    if not isinstance(reported, dict):
        return None
    given = count_or_none(reported.get("input_tokens"))
    generated = count_or_none(reported.get("output_tokens", 0))
    if given is None or generated is None:
        return None
    of_input = _object(reported, "input_tokens_details")
    of_output = _object(reported, "output_tokens_details")
    return Usage(
        input_tokens=given,
        cached_tokens=min(_count(of_input, "cached_tokens"), given),
        cache_write_tokens=min(_count(of_input, "cache_write_tokens"), given),
        output_tokens=generated,
        reasoning_tokens=min(_count(of_output, "reasoning_tokens"), generated),
        web_searches=_web_searches(response),
        file_searches=sum(item.get("type") == "file_search_call" for item in _output(response)),
    )


def _web_searches(response: dict[str, Any]) -> int:
    """As told, or else counted: of a search's actions, opening a page and finding in it are not billed."""
    told = count_or_none(_object(_object(response, "tool_usage"), "web_search").get("num_requests"))
    if told is not None:
        return told
    searches = (item for item in _output(response) if item.get("type") == "web_search_call")
    return sum(_object(search, "action").get("type", "search") == "search" for search in searches)


def _output(response: dict[str, Any]) -> list[dict[str, Any]]:
    output = response.get("output")
    return [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def _count(holder: dict[str, Any], name: str) -> int:
    return count_or_none(holder.get(name)) or 0
