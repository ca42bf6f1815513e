"""The line that each governed request leaves in the log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from govmiddleware.core.call import Call
from govmiddleware.core.ids import new_request_id
from govmiddleware.logs import JsonFormatter
from govmiddleware.middleware._request_log import RequestLog
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.testing import Script
from govmiddleware.testing.provider import BrokenOff

CALLS = {"name": "calls", "scope": "user", "value": "bob", "meter": "requests", "window": "day", "hard": 1}
MINUTE = {"name": "minute", "scope": "user", "value": "bob", "meter": "requests", "rate": "2/minute"}
BOB = {"x-gov-user": "bob"}

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What JSON says of the requests so far."""
    caplog.set_level(logging.INFO, "govmiddleware")
    formatter = JsonFormatter()
    return lambda: [
        json.loads(formatter.format(record))
        for record in caplog.records
        if record.name == "govmiddleware.requests"
    ]


async def test_a_line_says_who_asked_for_what_and_what_became_of_it(
    governed, inside, post, lines: Lines
) -> None:
    app = (await governed()).stack(inside)
    headers = {
        "x-gov-user": "ann",
        "x-gov-session": "s1",
        "x-gov-agent": "planner",
        "x-gov-tags": "team=search",
        "x-request-id": "mine",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    answer = await post(app, headers=headers)
    [line] = lines()
    for measured in ("time", "process", "duration_ms", "first_byte_ms"):
        assert line.pop(measured)
    usage = answer.json()["usage"]
    assert line == {
        "level": "info",
        "logger": "govmiddleware.requests",
        "message": "POST /v1/chat/completions 200",
        "request_id": answer.headers["x-gov-request-id"],
        "parent_request_id": None,
        "client_request_id": "mine",
        "upstream_request_id": None,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "workspace": "acme",
        "api_token": "ci",
        "api_token_id": None,
        "user": "ann",
        "session": "s1",
        "agent": "planner",
        "tags": {"team": "search"},
        "method": "POST",
        "path": "/v1/chat/completions",
        "protocol": "openai.chat",
        "provider": "default",
        "model_requested": "m",
        "model_served": "m",
        "stream": False,
        "status": 200,
        "outcome": "answered",
        "error": None,
        "refusal": None,
        "limit": None,
        "would_refuse": None,
        "settlement": "exact",
        "input_tokens": usage["prompt_tokens"],
        "cached_tokens": 0,
        "output_tokens": usage["completion_tokens"],
        "reasoning_tokens": 0,
        "cost_usd": f"0.{usage['prompt_tokens'] * 1000 + usage['completion_tokens'] * 2000:09d}",
    }


async def test_neither_secrets_nor_queries_nor_prompts_are_logged(
    governed, inside, post, secret, caplog
) -> None:
    caplog.set_level(logging.DEBUG, "govmiddleware")
    app = (await governed()).stack(inside)
    for given in (secret, "wrong " + secret):
        await post(app, secret=given, path="/v1/chat/completions?key=hidden")
    assert len(caplog.records) == 2
    said = str([vars(record) | {"text": record.getMessage()} for record in caplog.records])
    assert not [each for each in (secret, "hidden", "Say hello") if each in said]


async def test_prompts_are_logged_where_that_is_asked_for_and_no_more_of_them(
    governed, inside, post, lines: Lines, caplog
) -> None:
    app = (await governed(log_prompt_characters=60)).stack(inside)
    assert "what users write stands in this log" in caplog.text
    text = "ä" * 1000
    await post(app, messages=[{"role": "user", "content": text}])
    [line] = lines()
    assert len(line["request_body"]) == 60
    assert line["request_body"].startswith('{"model":"m","messages":[{"role":"user","content":"ää')


async def test_warnings_are_for_operators_and_a_limit_that_does_its_job_is_none(
    governed, inside, post, lines: Lines
) -> None:
    app = (await governed(limits=[CALLS])).stack(inside)
    for script in (
        Script(),
        Script(status=500),
        Script(status=429),
        Script(status=404),
        Script(breaks_after=0),
    ):
        inside.provider.next(script)
        with suppress(BrokenOff):  # which a server would log
            await post(app)
    await post(app, secret="wrong")
    for _ in range(2):
        await post(app, headers=BOB)
    said = [
        (line["level"], line["status"], line["outcome"], line["refusal"], line["limit"]) for line in lines()
    ]
    assert said == [
        ("info", 200, "answered", None, None),
        ("warning", 500, "upstream_error", None, None),
        ("warning", 429, "upstream_error", None, None),
        ("info", 404, "upstream_error", None, None),
        ("warning", 200, "aborted", None, None),
        ("info", 401, "refused", "invalid_api_key", None),
        ("info", 200, "answered", None, None),
        ("info", 429, "refused", "insufficient_quota", "calls"),
    ]
    assert lines()[4]["error"] == "BrokenOff"


async def test_of_plain_requests_a_sample_is_logged_and_of_all_others_each(
    governed, inside, post, lines: Lines, caplog
) -> None:
    app = (await governed(log_sample=0, limits=[CALLS | {"hard": 2}, MINUTE | {"rate": "9/minute"}])).stack(
        inside
    )
    for _ in range(3):
        await post(app)
    assert lines() == []
    inside.provider.next(Script(status=404))
    await post(app)
    for _ in range(3):  # within the budget, past its soft value, and past its hard one
        await post(app, headers=BOB)
    await post(app, secret="wrong")
    assert [line["status"] for line in lines()] == [404, 200, 429, 401]
    assert "sample" not in lines()[0]


async def test_a_slow_request_is_logged_whatever_the_sample(governed, inside, post, lines: Lines) -> None:
    app = (await governed(log_sample=0, log_slow_seconds=0.000_001)).stack(inside)
    await post(app)
    assert len(lines()) == 1


def test_a_request_that_was_cancelled_before_it_was_sent_is_logged_whatever_the_sample(lines: Lines) -> None:
    for error in (None, asyncio.CancelledError()):
        call = Call(new_request_id(), OpenAIChat(), "POST", "/", model_call=True)
        RequestLog(sample=0).write(call, error)
    assert [(line["outcome"], line["error"]) for line in lines()] == [("aborted", "cancelled")]


def test_a_path_that_is_no_text_fails_no_request(lines: Lines) -> None:
    RequestLog().write(Call(new_request_id(), OpenAIChat(), "POST", "/v1/\udcff", model_call=True))
    [line] = lines()
    assert line["message"] == "POST /v1/%3F -"


def test_of_a_sample_each_line_says_how_large_it_is_and_the_others_are_for_debugging(
    lines: Lines, caplog
) -> None:
    caplog.set_level(logging.DEBUG, "govmiddleware")
    for _ in range(64):
        RequestLog(sample=0.5).write(Call(new_request_id(), OpenAIChat(), "POST", "/", model_call=True))
    assert {line["sample"] for line in lines()} == {0.5}
    chosen = {line["level"]: line["request_id"] for line in lines()}
    assert set(chosen) == {"info", "debug"}, "but once in 2^63 times"
    assert int(chosen["info"][-8:], 16) < 2**31 <= int(chosen["debug"][-8:], 16)


async def test_logging_that_is_not_configured_stays_as_it_is(governed, inside, post) -> None:
    log, root = logging.getLogger("govmiddleware"), logging.getLogger()
    before = log.handlers[:], log.level, log.propagate, root.handlers[:], root.level
    await post((await governed(log_format="json", log_level="debug")).stack(inside))
    assert (log.handlers[:], log.level, log.propagate, root.handlers[:], root.level) == before
