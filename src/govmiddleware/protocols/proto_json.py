"""Names of fields in the JSON of protocol buffers, as Google's APIs read it.

A parser takes a field's lowerCamelCase name and its original one, with underscores, for the same; nothing for
a list that has one element; a value that is the default for one that is absent. Source:
protobuf.dev/programming-guides/json; the recordings, which have both spellings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from govmiddleware.core.refusals import InvalidRequest


def spellings(names: Iterable[str], fields: Sequence[str]) -> dict[str, str]:
    """How each of `fields` (in lowerCamelCase) is spelt among `names`; as it stands where it is not among them.

    Raises InvalidRequest where one is given in both spellings, or in letters that another parser may take for it.
    """
    meant = {_folded(field): field for field in fields}
    spelt: dict[str, str] = {}
    for name in names:
        field = meant.get(_folded(name))
        if field is None:
            continue
        if field in spelt:
            raise InvalidRequest(f"'{field}' is given twice: {spelt[field]} and {name}.", param=field)
        if camel(name) != field:
            raise InvalidRequest(f"Write {field!r} for {name!r}.", param=name)
        spelt[field] = name
    return {field: field for field in fields} | spelt


def members(value: dict[str, Any], param: str) -> dict[str, Any]:
    """An object's members by their names in lowerCamelCase: the object itself where they have those. Raises
    InvalidRequest where one is given twice."""
    if "_" not in "".join(value):
        return value
    named = {camel(name): member for name, member in value.items()}
    if len(named) < len(value):
        raise InvalidRequest("A field is given in two spellings.", param=param)
    return named


def elements(value: object) -> list[Any]:
    """A repeated field's values: one by itself stands for a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def camel(name: str) -> str:
    """`max_output_tokens` as `maxOutputTokens`."""
    return re.sub("_([a-z0-9])", lambda found: found[1].upper(), name)


def _folded(name: str) -> str:
    return name.replace("_", "").casefold()
