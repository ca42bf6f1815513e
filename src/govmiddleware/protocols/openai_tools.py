"""Tool definitions as OpenAI puts them before its models: a namespace in the manner of TypeScript.

The format is not documented; it was read out by others (github.com/hmarr/openai-chat-tokens) and comes
close on recordings. As JSON, the same definitions count up to twice as many tokens.
"""

from __future__ import annotations

from typing import Any

_PLAIN = frozenset({"type", "description", "properties", "required", "enum", "items", "additionalProperties"})
_DEEPEST = 8


class _NotPlain(Exception):
    """A schema says something whose rendering is not known."""


def rendered(function: dict[str, Any]) -> str | None:
    """One function as the model reads it; None where its schema is not plain, so that nothing in it can
    go uncounted."""
    name, description = function.get("name"), function.get("description") or ""
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(name, str) or not isinstance(description, str):
        return None
    if function.keys() - {"name", "description", "parameters", "strict"}:
        return None
    try:
        members = _members(parameters, 0)
    except _NotPlain:
        return None
    comment = f"// {description}\n" if description else ""
    arguments = f"(_: {{\n{members}\n}})" if members else "()"
    return f"{comment}type {name} = {arguments} => any;\n\n"


def _members(schema: Any, depth: int) -> str:
    _require_plain(schema, depth)
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise _NotPlain
    lines = []
    for name, member in properties.items():
        kind = _type(member, depth + 1)
        if member.get("description"):
            lines.append(f"// {member['description']}")
        lines.append(f"{name}{'' if name in required else '?'}: {kind},")
    return "\n".join(lines)


def _type(schema: Any, depth: int) -> str:
    _require_plain(schema, depth)
    if "enum" in schema:
        return " | ".join(f'"{value}"' for value in schema["enum"])
    match schema.get("type"):
        case "object":
            members = _members(schema, depth)
            return f"{{\n{members}\n}}" if members else "object"
        case "array":
            return f"{_type(schema['items'], depth + 1)}[]" if "items" in schema else "any[]"
        case "integer":
            return "number"
        case "string" | "number" | "boolean" | "null" as kind:
            return str(kind)
    raise _NotPlain


def _require_plain(schema: Any, depth: int) -> None:
    if not isinstance(schema, dict) or schema.keys() - _PLAIN or depth > _DEEPEST:
        raise _NotPlain
    if not isinstance(schema.get("description", ""), str | None) or not isinstance(
        schema.get("enum", []), list
    ):
        raise _NotPlain
    if not isinstance(schema.get("additionalProperties", False), bool):
        raise _NotPlain
