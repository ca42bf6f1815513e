"""How a chat request's tools and output formats stand before a model, and what its family adds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.protocols.registry import recognise

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def read(model: str = "gpt-4o", **fields: Any) -> RequestInfo:
    chat = recognise("POST", "/v1/chat/completions")
    assert chat is not None
    given = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}
    return chat.read_request(RequestBody(json.dumps(given).encode()))


def test_tools_count_as_openai_renders_them_and_for_others_as_json() -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "A city"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
    }
    tool = {
        "type": "function",
        "function": {"name": "weather", "description": "Now", "parameters": parameters},
    }
    assert read(tools=[tool]).texts[-1] == (
        '// Now\ntype weather = (_: {\n// A city\ncity: string,\nunit?: "C" | "F",\n}) => any;\n\n'
    )
    assert json.loads(read(tools=[tool], model="claude-sonnet-4-5").texts[-1]) == tool


@pytest.mark.parametrize(
    ("member", "shown"),
    [
        ({"type": ["string", "null"], "maxLength": 9}, "string | null"),
        ({"type": "integer", "default": 3}, 'number // {"default":3}'),
        ({"const": "one"}, '"one"'),
        ({"type": "array"}, "any[]"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "number[]"),
        ({"oneOf": [{"type": "null"}, {"type": "boolean"}]}, "null | boolean"),
        ({"type": "object", "properties": {}}, "object"),
        ({"$ref": "#/$defs/Place"}, "{\nname?: string,\n}"),
        ({"$ref": "#/$defs/Unknown"}, 'any // {"$ref":"#/$defs/Unknown"}'),
        ({"type": "string", "pattern": "x" * 200}, "string // " + json.dumps({"pattern": "x" * 200}, separators=(",", ":"))),
        (True, "any"),
    ],
)  # fmt: skip
def test_schemas_of_all_kinds_are_rendered(member: object, shown: str) -> None:
    place = {"type": "object", "properties": {"name": {"type": "string"}}}
    parameters = {"type": "object", "properties": {"x": member, "y": {"$ref": "#/$defs/Place"}}, "$defs": {"Place": place}}  # fmt: skip
    function = {"name": "f", "parameters": parameters}
    text = read(tools=[{"type": "function", "function": function}]).texts[-1]
    assert text.startswith(f"type f = (_: {{\nx?: {shown},\ny?: ")


def test_a_schema_that_refers_to_itself_is_rendered_once() -> None:
    twice = {"type": "object", "properties": {"a": {"$ref": "#/$defs/N"}, "b": {"$ref": "#/$defs/N"}}}
    schema = {"$ref": "#/$defs/N", "$defs": {"N": twice}}
    text = read(tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}]).texts[-1]
    assert text.count("a?") == 1


def test_a_schema_that_is_nested_deeply_counts_as_json() -> None:
    schema: dict[str, Any] = {"type": "string", "description": "SAID"}
    for _ in range(20):
        schema = {"type": "array", "items": schema}
    parameters = {"type": "object", "properties": {"x": schema}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    assert json.loads(read(tools=[tool]).texts[-1]) == tool


def test_an_output_format_says_what_its_model_is_shown() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form = {"name": "City", "description": "Where", "strict": True, "schema": schema}
    texts = read(response_format={"type": "json_schema", "json_schema": form}).texts
    assert {"City", "Where"} < set(texts)
    assert json.loads(texts[-1]) == {"type": "object", "properties": {"city": {"type": "string"}}}
    others = read("glm-5.2", response_format={"type": "json_schema", "json_schema": form}).texts
    assert json.loads(others[-1]) == form


@pytest.mark.parametrize(
    ("choice", "tokens"),
    [
        ("auto", 497),
        ("none", 497),
        ("required", 589),
        ({"type": "function", "function": {"name": "look"}}, 589),
    ],
)
def test_claude_is_told_by_more_words_that_it_has_to_call_a_tool(choice: object, tokens: int) -> None:
    without = read("anthropic/claude-sonnet-4.6").overhead_tokens
    told = read("anthropic/claude-sonnet-4.6", tools=[TOOL], tool_choice=choice).overhead_tokens
    assert told - without == tokens


@pytest.mark.parametrize(
    ("model", "reasoning", "tokens"),
    [
        ("claude-sonnet-4.5", {"effort": "high"}, 28),
        ("claude-sonnet-4.5", {"effort": "none"}, 0),
        ("claude-sonnet-4.5", {"enabled": False}, 0),
        ("claude-sonnet-4.5", 7, 0),
        ("claude-3.7-sonnet:thinking", None, 28),
        ("gpt-5", {"effort": "high"}, 0),
    ],
)
def test_claude_is_told_to_think(model: str, reasoning: object, tokens: int) -> None:
    plain = read(model.removesuffix(":thinking")).overhead_tokens
    assert read(model, reasoning=reasoning).overhead_tokens - plain == tokens
