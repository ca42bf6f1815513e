"""How log lines look: for people, or as JSON. In neither can what clients write begin a line of its own.

`serve` uses these formatters. A host app configures its own logging, with them if it likes.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What ends a line somewhere, steers a terminal, or cannot be written as UTF-8."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@+*-]+")
"""Values that need no quotes."""

_NUMBERS = (int, float)
"""Types of values that JSON and `str` write alike. A bool is none of them."""

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ascii = json.JSONEncoder(default=str, separators=(",", ":"))
_quick = msgspec.json.Encoder(enc_hook=str)


class Line:
    """A log message that has fields: `str()` of it is for people, with the fields as `name=value`.

    Args:
        summary: what happened, in a few words.
        fields: JSON values by name; None where there is nothing to say.
        said: the names of those that the summary has already.
    """

    def __init__(self, summary: str, fields: Mapping[str, object], *, said: Collection[str] = ()) -> None:
        self.summary = summary
        self.fields = fields
        self._said = said

    def __str__(self) -> str:
        said, is_plain = self._said, _PLAIN.fullmatch
        parts = [_on_one_line(self.summary)]
        for name, value in self.fields.items():
            if value is None or name in said:
                continue
            if isinstance(value, str):
                # Many are a plain word, which is found faster without the regular expression.
                is_as_it_is = (value.isalnum() and value.isascii()) or is_plain(value) is not None
            else:
                is_as_it_is = type(value) in _NUMBERS
            parts.append(f"{name}={value if is_as_it_is else _in_json(value)}")
        return " ".join(parts)


class ConsoleFormatter(logging.Formatter):
    """One line a message, in UTC; only a traceback takes more, which are indented.

    Args:
        with_process: whether each line says of which process it is.
    """

    def __init__(self, *, with_process: bool = False) -> None:
        super().__init__()
        self._with_process = with_process

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if not isinstance(record.msg, Line) or record.args:  # which is on one line already
            message = _on_one_line(message)
        process = f" [{record.process}]" if self._with_process else ""
        text = f"{_time(record)} {record.levelname}{process} {record.name}: {message}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + self.formatStack(record.stack_info)
        return text

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join("    " + _on_one_line(line) for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: `time`, `level`, `logger`, `process` and `message`, the fields of a `Line`
    beside them, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = record.msg if isinstance(record.msg, Line) else None
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": line.summary if line else record.getMessage(),
        }
        if line:
            entry.update(line.fields)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            text = _quick.encode(entry).decode()
        except UnicodeEncodeError:  # half of a surrogate pair
            return _ascii.encode(entry)
        return text if text.isascii() and "\x7f" not in text else _ascii.encode(entry)


def _time(record: logging.LogRecord) -> str:
    """RFC 3339."""
    second = int(record.created)
    return f"{_second(second)}.{int((record.created - second) * 1000):03d}Z"


@lru_cache(maxsize=1)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _in_json(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _on_one_line(_compact.encode(value))


def _on_one_line(text: str) -> str:
    if text.isprintable():  # nearly always
        return text
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
