"""Bring the tables of docs/settings.md up to date with the settings tree.

    uv run python tools/settings_page.py

Names, variables, types and defaults come from the tree; what a setting means is written in the last column of the page,
and kept. A setting that is new gets a row whose meaning is to be written.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from govmiddleware.settings import ApiTokenSettings, PriceSettings, Settings, UpstreamSettings
from govmiddleware.settings_limits import LimitSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
TABLES: dict[str, type[BaseModel]] = {
    "The deployment": Settings,
    "`[[upstreams]]`": UpstreamSettings,
    "`[[api_tokens]]`": ApiTokenSettings,
    "`[[limits]]`": LimitSettings,
    "`[[prices]]`": PriceSettings,
}
"""By the heading that each stands under."""

_ROW = re.compile(r"^\| `(\w+)`[^|]* \|.*\| (.*?) \|$", re.MULTILINE)
_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
_NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "table",
}


def up_to_date(page: str) -> str:
    """The page with the tables that it should have."""
    before, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    return before + "".join(_section(section) for section in sections)


def missing(page: str) -> list[str]:
    """Settings of which the page does not say what they mean."""
    return [name for name, meaning in _ROW.findall(up_to_date(page)) if not meaning]


def _section(section: str) -> str:
    model = TABLES.get(section.partition("\n")[0].removeprefix("## "))
    if model is None:
        return section
    table = _table(model, dict(_ROW.findall(section)))
    return _TABLE.sub(lambda _: table, section, count=1)


def _table(model: type[BaseModel], meanings: dict[str, str]) -> str:
    schema = model.model_json_schema()
    rows = [["setting", "type", "default", "meaning"], ["---"] * 4]
    for name, field in schema["properties"].items():
        variable = f"<br>`GOV_{name.upper()}`" if model is Settings else ""
        meaning = meanings.get(name, "")
        rows.append([f"`{name}`{variable}", _type(field, schema), _default(model, name), meaning])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """As the author of a configuration would say it."""
    if "$ref" in field:
        found: dict[str, Any] = schema["$defs"][field["$ref"].rpartition("/")[2]]
        return "a table" if found["type"] == "object" else _type(found, schema)
    if options := field.get("anyOf"):
        # Decimals are taken as texts too, which nobody needs to know of.
        kinds = [_type(option, schema) for option in options if option.get("type") != "null"]
        return " or ".join(kinds[:1] if kinds[-1] == "text" else kinds)
    match field["type"]:
        case "string" if "enum" in field:
            return ", ".join(f"`{value}`" for value in field["enum"])
        case "string" if "const" in field:
            return f"`{field['const']}`"
        case "array" if "prefixItems" in field:
            return "list of two"
        case "array":
            return f"list of {_type(field['items'], schema).removeprefix('a ')}s"
        case "string" if field.get("format") == "password":
            least = field.get("minLength", 1)
            return f"secret, {least} characters or more" if least > 1 else "secret"
        case "string" if "format" in field:
            return str(field["format"])
        case kind:
            return _NAMES[kind] + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    # Pydantic names them as JSON Schema does, but for what a validator of ours stands before.
    said = {
        "gt": "above {}",
        "ge": "{} or more",
        "minimum": "{} or more",
        "le": "{} or less",
        "maximum": "{} or less",
    }
    return "".join(f", {said[key].format(f'{bound:,.16g}')}" for key, bound in field.items() if key in said)


def _default(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    match field.default:
        case None:
            return "none"
        case bool() as default:
            return f"`{str(default).lower()}`"
        case StrEnum() | str() as default:
            return f'`"{default}"`'
        case ():
            return "`[]`"
        case default if default is PydanticUndefined:  # made when it is needed
            return "`{}`" if field.annotation is not Path else "the platform's user data folder"
        case default:
            return f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(up_to_date(PAGE.read_text()))
    for setting in missing(PAGE.read_text()):
        print(f"{PAGE.name}: write what {setting} means")
