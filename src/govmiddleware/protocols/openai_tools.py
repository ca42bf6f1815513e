"""Tool definitions and output formats as OpenAI puts them before its models: tools as a namespace in the manner of
TypeScript, a format as JSON.

What the service does is not documented; the form is that of the open models (github.com/openai/harmony,
`src/encoding.rs`) and was read out of the others (github.com/hmarr/openai-chat-tokens). As JSON, the same
definitions count up to twice as many tokens.
"""

from __future__ import annotations

from typing import Any

import msgspec

_CHOICES = ("anyOf", "oneOf", "allOf")
_DEFINITIONS = ("$defs", "definitions")
_TYPES = {
    **{name: name for name in ("string", "number", "boolean", "null", "object")},
    "integer": "number",
    "array": "any[]",
}
"""How the types of JSON Schema are called in TypeScript."""

_UNSAID = frozenset(
    {
        "additionalProperties",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "multipleOf",
        "pattern",
        "uniqueItems",
        "$schema",
    }
)
"""Keywords that harmony leaves out; said all the same where they hold more than a bound or a pattern does."""
_LONGEST_UNSAID = 128

_DEEPEST = 8
"""Schemas nested more deeply are counted as the JSON that they are."""


class _TooDeep(Exception):
    """A schema is nested more deeply than it is rendered."""


def rendered(function: dict[str, Any]) -> str | None:
    """One function as the model reads it; None where it is nested too deeply, or has too large a number. What the
    form has no place for stands in it as JSON, so that nothing goes uncounted."""
    said = {name: value for name, value in function.items() if name != "strict"}
    about = _pop_comment(said)
    name, parameters = said.pop("name", ""), said.pop("parameters", None) or {}
    try:
        about_arguments, arguments = _rendered_parameters(parameters)
        shown = name if isinstance(name, str) else _json(name)
        rest = _json(said) if said else ""
    except (_TooDeep, RecursionError, OverflowError):
        return None
    arguments = "" if arguments == "object" else f"_: {arguments}"
    return f"{about}{about_arguments}type {shown} = ({arguments}) => any;\n\n{rest}"


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
    if _names(schema.get("properties"), schema.get("required")):
        shown.pop("required", None)
    if shown.get("additionalProperties") is False:
        del shown["additionalProperties"]
    return shown


def _rendered_parameters(parameters: object) -> tuple[str, str]:
    """What is said of them, and their type."""
    definitions: dict[str, Any] = {}
    if isinstance(parameters, dict):
        parameters = {"type": "object", **parameters}
        for place in _DEFINITIONS:
            if isinstance(parameters.get(place), dict):
                definitions |= {f"#/{place}/{name}": each for name, each in parameters.pop(place).items()}
    about, text = _Rendering(definitions).parts(parameters)
    return about, f"{text} // {_json(definitions)}" if definitions else text


class _Rendering:
    """Of a schema, in the manner of TypeScript.

    Args:
        definitions: what it refers to. It stands where it is first referred to, and is taken out of these.
    """

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions

    def parts(self, schema: object, depth: int = 0) -> tuple[str, str]:
        """What is said of a schema, and its type. Raises _TooDeep."""
        if depth > _DEEPEST:
            raise _TooDeep
        if not isinstance(schema, dict):
            return "", "any" if isinstance(schema, bool | None) else _json(schema)
        said = {name: value for name, value in schema.items() if not _is_unsaid(name, value)}
        about = _pop_comment(said)
        text = self._pop_type(said, depth)
        return about, f"{text} // {_json(said)}" if said else text

    def _described(self, schema: object, depth: int) -> str:
        return "".join(self.parts(schema, depth))

    def _pop_type(self, said: dict[str, Any], depth: int) -> str:
        """Takes out of `said` what it renders."""
        kinds = _pop_kinds(said)
        referred = said.get("$ref")
        if isinstance(referred, str) and referred in self._definitions:
            del said["$ref"]
            return self._described(self._definitions.pop(referred), depth + 1)
        for name in _CHOICES:
            if isinstance(said.get(name), list):
                return " | ".join(self._described(one, depth + 1) for one in said.pop(name))
        if isinstance(said.get("enum"), list):
            return " | ".join(map(_json, said.pop("enum")))
        if "const" in said:
            return _json(said.pop("const"))
        if isinstance(said.get("properties"), dict) and _names(said["properties"], said.get("required", [])):
            return self._members(said.pop("properties"), frozenset(said.pop("required", ())), depth)
        if "items" in said:
            return self._described(said.pop("items"), depth + 1) + "[]"
        return " | ".join(_TYPES[kind] for kind in kinds) or "any"

    def _members(self, properties: dict[str, Any], required: frozenset[str], depth: int) -> str:
        lines = []
        for name, member in properties.items():
            about, text = self.parts(member, depth + 1)
            lines.append(f"{about}{name}{'' if name in required else '?'}: {text},\n")
        return f"{{\n{''.join(lines)}}}" if lines else "object"


def _pop_kinds(said: dict[str, Any]) -> list[str]:
    """The types of a schema, unless one of them is none."""
    given = said.get("type")
    given = given if isinstance(given, list) else [given]
    kinds = [kind for kind in given if isinstance(kind, str) and kind in _TYPES]
    if len(kinds) < len(given):
        return []
    said.pop("type")
    return kinds


def _names(properties: object, required: object) -> bool:
    """Whether what is required is a list of names of properties, and thus says nothing more."""
    return (
        isinstance(properties, dict)
        and isinstance(required, list)
        and all(isinstance(name, str) and name in properties for name in required)
    )


def _is_unsaid(name: str, value: object) -> bool:
    if name not in _UNSAID or isinstance(value, list | dict):
        return False
    return not isinstance(value, str) or len(value) <= _LONGEST_UNSAID


def _pop_comment(schema: dict[str, Any]) -> str:
    """What is said of something, on a line before it."""
    description = schema.get("description")
    if not isinstance(description, str | None):
        return ""
    schema.pop("description", None)
    return f"// {description}\n" if description else ""


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
