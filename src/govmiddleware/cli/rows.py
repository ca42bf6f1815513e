"""Rows of a table that a person brings: CSV, JSON lines, or JSON."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from govmiddleware.errors import ConfigurationError
from govmiddleware.settings_errors import HIDDEN

STDIN = "-"


class Row(msgspec.Struct, frozen=True):
    """One row.

    Attributes:
        where: `keys.csv, line 3`, to be told in errors.
        fields: those that are not empty.
        columns: all of them.
    """

    where: str
    fields: Mapping[str, object]
    columns: frozenset[str]

    def text(self, name: str) -> str | None:
        """Of a field as a text. Raises ConfigurationError for a mapping or a list."""
        value = self.fields.get(name)
        if isinstance(value, dict | list):
            raise ConfigurationError(f"{self.where}: {name}", HIDDEN, "a text")
        return None if value is None else str(value)

    def flag(self, name: str) -> bool:
        """Of a field as JSON, PostgreSQL's CSV and people write it."""
        return str(self.fields.get(name)).lower() in ("true", "t", "yes", "1")

    def json(self, name: str) -> object:
        """Of a field that is JSON, in CSV as a text. What is no JSON is None."""
        value = self.fields.get(name)
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            return None


def read_rows(file: str) -> list[Row]:
    """All rows of a file, or of standard input for `-`.

    It is told by its first character: CSV with a header, a JSON object on each line, a JSON array of objects, or an
    object of such arrays by LiteLLM's names for its tables. Raises ConfigurationError, which shows nothing that stands
    in it: it may be a secret.
    """
    name = "standard input" if file == STDIN else file
    try:
        # The mark that spreadsheets begin a file with is no part of the first column's name.
        text = (sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()).decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError("FILE", file, f"a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigurationError("FILE", file, "a text in UTF-8") from None
    found = _json(text, name) if text.lstrip()[:1] in ("{", "[") else _csv(text, name)
    return [
        Row(
            where,
            {key: value for key, value in fields.items() if value not in (None, "")},
            frozenset(fields),
        )
        for where, fields in found
    ]


_Found = Iterator[tuple[str, Mapping[str, object]]]
"""Where each row stands, and its fields."""


def _csv(text: str, name: str) -> _Found:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    line = 2
    try:
        for fields in reader:
            where = f"{name}, line {line}"
            line = reader.line_num + 1
            if None in fields or None in fields.values():
                columns = len(reader.fieldnames or ())
                raise ConfigurationError(where, None, f"{columns} columns, as the header has")
            yield where, fields
    except csv.Error as error:
        raise ConfigurationError(f"{name}, line {line}", None, f"CSV ({error})") from None


def _json(text: str, name: str) -> _Found:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    match whole:
        case list():
            yield from _items(whole, name)
        case dict() if _has_tables(whole):
            for table, rows in whole.items():
                if isinstance(rows, list):
                    yield from _items(rows, f"{name}, {table}")
        case dict():
            yield name, whole
        case _:
            yield from _json_lines(text, name)


def _has_tables(whole: Mapping[str, object]) -> bool:
    """By LiteLLM's names: of its tables, and in the answers of its API. Its users have a column called teams."""
    named = any(key.startswith("LiteLLM_") or key in ("keys", "teams", "users") for key in whole)
    return named and "user_id" not in whole


def _items(items: Sequence[object], name: str) -> _Found:
    for number, fields in enumerate(items, 1):
        where = f"{name}, item {number}"
        if not isinstance(fields, dict):
            raise ConfigurationError(where, None, "a JSON object")
        yield where, fields


def _json_lines(text: str, name: str) -> _Found:
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would split at U+2028, too
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise ConfigurationError(where, None, f"a JSON object ({getattr(error, 'msg', error)})") from None
        if not isinstance(fields, dict):
            raise ConfigurationError(where, None, "a JSON object")
        yield where, fields
