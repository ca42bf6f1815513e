"""Tool definitions as OpenAI puts them before its models: a namespace in the manner of TypeScript.

The format is not documented; it was read out by others (github.com/hmarr/openai-chat-tokens) and comes
close on recordings. As JSON, the same definitions count up to twice as many tokens.
"""

from __future__ import annotations

from typing import Any

_PLAIN = {
    "object": frozenset({"type", "description", "properties", "required", "additionalProperties"}),
    "array": frozenset({"type", "description", "items"}),
    **dict.fromkeys(("string", "number", "integer", "boolean", "null"), frozenset({"type", "description"})),
    "enum": frozenset({"type", "description", "enum"}),
    "anyOf": frozenset({"description", "anyOf"}),
}
"""What a schema of each kind may say for its rendering to be known."""

_CHOICES = ("enum", "anyOf")
_DEEPEST = 8
"""Schemas nested more deeply are counted as the JSON that they are."""


class _NotPlain(Exception):
    """A schema says something whose rendering is not known."""


def rendered(function: dict[str, Any]) -> str | None:
    """One function as the model reads it; None where its schema is not plain, so that nothing in it can
    go uncounted."""
    name = function.get("name")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(name, str) or function.keys() - {"name", "description", "parameters", "strict"}:
        return None
    try:
        members = _members(parameters, 0)
        comments = _comment(function) + _comment(parameters)
    except _NotPlain:
        return None
    arguments = f"(_: {{\n{members}\n}})" if members else "()"
    return f"{comments}type {name} = {arguments} => any;\n\n"


def format_schema(schema: object, depth: int = 0) -> object:
    """The schema of a structured output without what its models are not shown (read off the recordings): which
    members an object must have, and that it has no others."""
    if depth > 4 * _DEEPEST:
        return schema
    if isinstance(schema, list):
        return [format_schema(each, depth + 1) for each in schema]
    if not isinstance(schema, dict):
        return schema
    shown = {name: format_schema(value, depth + 1) for name, value in schema.items()}
    properties, required = schema.get("properties"), schema.get("required")
    if (
        isinstance(properties, dict)
        and isinstance(required, list)
        and properties.keys() >= set(map(str, required))
    ):
        del shown["required"]
    if shown.get("additionalProperties") is False:
        del shown["additionalProperties"]
    return shown


def _members(schema: Any, depth: int) -> str:
    if _kind(schema, depth) != "object":
        raise _NotPlain
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise _NotPlain
    if not properties.keys() >= set(map(str, required)):
        raise _NotPlain
    lines = []
    for name, member in properties.items():
        kind = _type(member, depth + 1)
        lines.append(f"{_comment(member)}{name}{'' if name in required else '?'}: {kind},")
    return "\n".join(lines)


def _type(schema: Any, depth: int) -> str:
    match _kind(schema, depth):
        case "enum":
            return " | ".join(f'"{value}"' for value in schema["enum"])
        case "anyOf":
            return " | ".join(_comment(one) + _type(one, depth + 1) for one in schema["anyOf"])
        case "object":
            members = _members(schema, depth)
            return f"{{\n{members}\n}}" if members else "object"
        case "array":
            items = schema.get("items")
            return "any[]" if items is None else f"{_comment(items)}{_type(items, depth + 1)}[]"
        case "integer":
            return "number"
        case kind:
            return kind


def _kind(schema: Any, depth: int) -> str:
    """What a schema is, for one that says nothing that is not rendered."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise _NotPlain
    kind = next((name for name in _CHOICES if name in schema), schema.get("type"))
    if kind in _CHOICES and not isinstance(schema.get(kind), list):
        raise _NotPlain
    if not isinstance(kind, str) or schema.keys() - _PLAIN.get(kind, frozenset()):
        raise _NotPlain
    if not isinstance(schema.get("additionalProperties", False), bool):
        raise _NotPlain
    return kind


def _comment(schema: Any) -> str:
    """What is said of something, on a line before it."""
    description = schema.get("description") if isinstance(schema, dict) else None
    if not isinstance(description, str | None):
        raise _NotPlain
    return f"// {description}\n" if description else ""
