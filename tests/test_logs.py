"""How log lines look, whatever clients put into them."""

from __future__ import annotations

import json
import logging
import logging.config
import re
from pathlib import Path

import pytest

from govmiddleware.logs import ConsoleFormatter, JsonFormatter, Line

DOCS = Path(__file__).parents[1] / "docs" / "logs.md"
EVIL = 'ann\n2026-01-01T00:00:00.000Z ERROR fake: "paid"\r\x1b[2J\x85\u2028\ud800'
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def record(message: object, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    information = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("govmiddleware.x", logging.WARNING, "", 0, message, arguments, information)


def test_a_line_for_people_has_its_fields_as_name_and_value() -> None:
    fields = {
        "status": 200,
        "user": "Jörg B.",
        "model": "gpt-4o",
        "limit": None,
        "tags": {"team": "a b"},
        "stream": False,
    }
    text = ConsoleFormatter().format(record(Line("POST /v1 200", fields, said=["status"])))
    expected = 'POST /v1 200 user="Jörg B." model=gpt-4o tags={"team":"a b"} stream=false'
    assert re.fullmatch(rf"{TIME} WARNING govmiddleware.x: " + re.escape(expected), text)


def test_a_json_line_has_its_fields_as_they_are() -> None:
    fields = {"status": 200, "user": "Jörg B.", "limit": None, "stream": False}
    text = JsonFormatter().format(record(Line("POST /v1 200", fields)))
    entry = json.loads(text)
    assert re.fullmatch(TIME, entry.pop("time"))
    assert entry.pop("process")
    assert entry == fields | {"level": "warning", "logger": "govmiddleware.x", "message": "POST /v1 200"}


@pytest.mark.parametrize("formatter", [ConsoleFormatter(), JsonFormatter()])
@pytest.mark.parametrize("message", [EVIL, Line("GET /", {"user": EVIL}), Line(EVIL, {})])
def test_what_clients_write_begins_no_line_and_steers_no_terminal(formatter, message) -> None:
    for given in (record(message), record("%s called", message)):
        text = formatter.format(given)
        assert len(text.splitlines()) == 1
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028]", text)
        text.encode()
    if isinstance(formatter, JsonFormatter):
        assert EVIL in json.loads(formatter.format(record("%s", EVIL)))["message"]


@pytest.mark.parametrize("user", ["Jörg", "ann\x7f", "\ud800", 'a "b"', ""])
def test_what_is_no_plain_word_is_quoted_for_people_and_in_ascii_in_json(user: str) -> None:
    given = record(Line("GET /", {"user": user, "status": 200}))
    shown = ConsoleFormatter().format(given).partition("GET / ")[2]
    assert shown.startswith('user="')
    assert shown.endswith('" status=200')
    text = JsonFormatter().format(given)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["user"] == user


def test_a_line_is_safe_under_formatters_of_a_host_app_too() -> None:
    assert len(logging.Formatter().format(record(Line("GET /", {"user": EVIL}))).splitlines()) == 1


def test_a_host_app_takes_the_formatter_as_the_documentation_says(capsys) -> None:
    [block] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    log = logging.getLogger("govmiddleware")
    before = log.level, log.propagate
    try:
        exec(block, {"logging": logging})
        logging.getLogger("govmiddleware.requests").info(Line("GET / 200", {"user": "ann"}))
        entry = json.loads(capsys.readouterr().err)
        assert (entry["message"], entry["user"]) == ("GET / 200", "ann")
    finally:
        log.handlers.clear()
        log.level, log.propagate = before


def test_a_traceback_follows_for_people_and_is_a_field_in_json() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        given = record("it failed", error=error)
    first, *lines = ConsoleFormatter().format(given).split("\n")
    assert first.endswith("it failed")
    assert "ValueError: ann" in lines[-2]
    assert all(line.startswith("    ") and line.splitlines() == [line] for line in lines)
    entry = json.loads(JsonFormatter().format(given))
    assert entry["message"] == "it failed"
    assert entry["exception"].endswith("ValueError: " + EVIL)
