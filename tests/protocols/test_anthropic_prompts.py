"""What a messages request puts before Claude beside its texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.protocols.anthropic_prompt import TOOL_TOKENS
from govmiddleware.protocols.registry import recognise

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "look", "description": "Look it up.", "input_schema": {"type": "object"}}


def read(**fields: Any) -> RequestInfo:
    messages = recognise("POST", "/v1/messages")
    assert messages is not None
    given = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": HELLO, **fields}
    return messages.read_request(RequestBody(json.dumps(given).encode()))


@pytest.mark.parametrize(
    ("model", "choice", "tokens"),
    [
        ("claude-opus-4-8", "auto", 290),
        ("claude-opus-4-8", "any", 410),
        ("anthropic/claude-4.8-opus-20260528", "tool", 410),
        ("claude-sonnet-4-6", "none", 497),
        ("claude-haiku-4-5-20251001", "auto", 496),
        ("claude-sonnet-4-20250514", "auto", 313),
        ("claude-opus-4-1-20250805", "any", 315),
        ("claude-3-5-haiku-latest", "any", 355),
        ("claude-opus-5", "auto", 286),
        ("claude-sonnet-5", "auto", 354),
        ("claude-fable-5-1", "auto", 354),
    ],
)
def test_tools_add_the_prompt_that_anthropic_documents(model: str, choice: str, tokens: int) -> None:
    without = read(model=model).overhead_tokens
    with_one = read(model=model, tools=[TOOL], tool_choice={"type": choice}).overhead_tokens
    assert with_one - without == tokens + TOOL_TOKENS


def test_a_deferred_tool_is_no_prompt_until_it_is_found() -> None:
    deferred = {**TOOL, "name": "later", "defer_loading": True}
    assert "later" not in "".join(read(tools=[TOOL, deferred]).texts)
    found = {"type": "tool_result", "content": [{"type": "tool_reference", "tool_name": "later"}]}
    messages = [{"role": "user", "content": [found]}]
    assert "{" in read(tools=[TOOL, deferred], messages=messages).texts[-1]
    hosted = {"type": "tool_search_tool_regex_20251119", "name": "search"}  # it may find any
    assert "later" in "".join(read(tools=[hosted, TOOL, deferred]).texts)
    assert "later" in "".join(read(tools=[TOOL, deferred], model="glm-5.2").texts)  # who may not heed it


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"model": "claude-sonnet-4-5"}, False),
        ({"model": "claude-opus-4-1"}, False),
        ({"model": "claude-3-7-sonnet-latest"}, False),
        ({"model": "claude-opus-4-5"}, True),
        ({"model": "claude-sonnet-4-6"}, True),
        ({"model": "claude-sonnet-5"}, True),
        ({"model": "claude-sonnet-4-5", "context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}, True),
    ],
)  # fmt: skip
def test_thinking_of_earlier_turns_counts_for_models_that_keep_it(
    fields: dict[str, Any], counts: bool
) -> None:
    thinking = {"type": "thinking", "thinking": "THOUGHT", "signature": "x" * 5_000}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1"}
    at_hand = [
        {"role": "user", "content": "Go on"},
        {"role": "assistant", "content": [thinking]},
        {"role": "user", "content": [result]},
    ]
    earlier = [*at_hand, {"role": "assistant", "content": "2"}, {"role": "user", "content": "And?"}]
    assert "THOUGHT" in "".join(read(messages=at_hand, **fields).texts)
    now = read(messages=earlier, **fields)
    assert ("THOUGHT" in "".join(now.texts)) is counts
    assert (now.overhead_tokens > 900) is counts  # what is sealed


def test_tools_that_the_client_runs_have_their_documented_size() -> None:
    bash = {"type": "bash_20250124", "name": "bash"}
    assert read(tools=[bash]).unknown_parts == 0
    assert read(tools=[bash]).overhead_tokens - read(tools=[TOOL]).overhead_tokens == 245
    assert read(tools=[{"type": "bash_script", "name": "x"}, {"type": 7}]).unknown_parts == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "assistant", "content": [{"type": ["thinking"]}, 7]}, *HELLO]},
        {"messages": [{"role": "user", "content": [{"type": "tool_reference", "tool_name": ["x"]}]}]},
        {"tools": [{"name": ["look"], "defer_loading": True}]},
        {"tools": [{"name": "look", "type": ["bash_20250124"]}]},
        {"tools": [TOOL], "tool_choice": "any"},
        {"context_management": {"edits": [{"type": 7}, 7]}},
    ],
)
def test_what_anthropic_would_refuse_is_read_all_the_same(fields: dict[str, Any]) -> None:
    assert read(model="claude-sonnet-4-5", **fields).overhead_tokens > 0
