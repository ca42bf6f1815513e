"""`replay`: a line for each exchange, what limits would have decided, and files that are not what they should be."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cli.conftest import Ran

from govmiddleware.core.prices import PriceBook
from govmiddleware.core.usage import Usage
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.replay import lines, trial

CHAT = {
    "id": "a",
    "protocol": "openai.chat",
    "host": "api.openai.com",
    "path": "/v1/chat/completions",
    "query": "",
    "status": 200,
    "content_type": "application/json",
    "request": {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 100,
    },
    "response": {
        "model": "gpt-4o-2024-08-06",
        "choices": [],
        "usage": {"prompt_tokens": 10, "completion_tokens": 50},
    },
    "response_text": None,
}
KEYS = [
    "id",
    "protocol",
    "model",
    "estimate",
    "bound",
    "usage",
    "settlement",
    "cost_usd",
    "decisions",
    "error",
]
CALL_COST = "0.000525000"
"""Of CHAT: 10 tokens at 2.50 USD a million, and 50 at 10."""

BUDGET = """
[[limits]]
name = "month"
scope = "user"
meter = "cost_usd"
window = "month"
hard = 0.0015
"""

Replay = Callable[..., tuple[list[dict[str, Any]], Ran]]


@pytest.fixture
def replay(run: Callable[..., Ran], tmp_path: Path) -> Replay:
    """Replays exchanges, or lines as they are; returns what was said of each, and all."""

    def replayed(given: Iterable[object], *arguments: str) -> tuple[list[dict[str, Any]], Ran]:
        file = tmp_path / "exchanges.jsonl"
        raw = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in given]
        file.write_bytes(b"\n".join(raw) + b"\n")
        ran = run("replay", str(file), *arguments)
        return [json.loads(line) for line in ran.out.splitlines()], ran

    return replayed


def at(time: str, **fields: Any) -> dict[str, Any]:
    return CHAT | {"at": time} | fields


def test_each_exchange_gives_a_line_in_order(replay: Replay) -> None:
    failed = CHAT | {"id": "b", "status": 500, "response": {"error": {"message": "no"}}}
    bare = CHAT | {
        "id": "c",
        "response": {"model": "gpt-4o", "choices": [{"message": {"content": "Hello there."}}]},
    }
    said, ran = replay([CHAT, failed, bare])
    assert ran.code == 0
    assert [list(each) for each in said] == [[*KEYS, "at"]] * 3
    whole, error, estimated = said
    assert whole["usage"] == {
        "input_tokens": 10,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 50,
        "reasoning_tokens": 0,
    }
    assert (whole["settlement"], whole["cost_usd"], whole["error"]) == ("exact", CALL_COST, None)
    assert whole["estimate"]["input_tokens"] <= whole["bound"]["input_tokens"]
    assert whole["bound"]["output_tokens"] == 100
    assert (error["settlement"], error["cost_usd"]) == ("exact", "0.000000000")
    assert (estimated["settlement"], estimated["usage"]["output_tokens"]) == ("estimated", 3)
    assert "3 exchanges" in ran.err


def test_bounds_learn_in_the_order_of_the_lines_as_they_would_in_the_stack(replay: Replay) -> None:
    prompt = {**CHAT["request"], "messages": [{"role": "user", "content": "word " * 1000}]}
    answer = {**CHAT["response"], "usage": {"prompt_tokens": 1200, "completion_tokens": 50}}
    long = CHAT | {"request": prompt, "response": answer}
    said, _ = replay([long] * 52 + [long | {"workspace": "another"}])
    bounds = [each["bound"]["input_tokens"] for each in said]
    assert len(set(bounds[:50])) == 1
    assert bounds[0] == bounds[52] < 1200 <= bounds[51], "what one workspace teaches is not for another"


def test_a_stream_is_read_as_it_was_recorded(replay: Replay) -> None:
    chunks = [{"model": "gpt-4o", "choices": [{"delta": {"content": "Hello"}}]}, CHAT["response"]]
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    stream = CHAT | {"content_type": "text/event-stream", "response": None, "response_text": text}
    [whole], _ = replay([stream | {"request": CHAT["request"] | {"stream": True}}])
    assert (whole["settlement"], whole["cost_usd"]) == ("exact", CALL_COST)


def test_what_the_stack_refuses_is_read_all_the_same(replay: Replay) -> None:
    unpriced = CHAT | {
        "request": CHAT["request"] | {"model": "nobody-knows"},
        "response": CHAT["response"] | {"model": None},
    }
    escaping = CHAT | {"request": CHAT["request"] | {"fallbacks": ["gpt-4o"]}}
    said, ran = replay([unpriced, escaping, CHAT | {"path": "/v1/unheard-of"}])
    assert [each["error"]["code"] for each in said] == [
        "model_not_priced",
        "invalid_request",
        "route_not_metered",
    ]
    assert [each["usage"] and each["usage"]["output_tokens"] for each in said] == [50, 50, None]
    assert [each["cost_usd"] for each in said] == [None, CALL_COST, None]
    assert "1 have usage and no price" in ran.err
    assert "2 are refused whatever the limits" in ran.err
    assert "1 were read by no protocol" in ran.err


def test_what_is_refused_is_priced_by_the_model_that_its_address_names(replay: Replay) -> None:
    """An answer of Bedrock's does not name it."""
    exchange = {
        "host": "bedrock-runtime.us-east-1.amazonaws.com",
        "path": "/model/us.amazon.nova-pro-v1%3A0/converse",
        "request": {"messages": [], "performanceConfig": {"latency": "optimized"}},
        "response": {"output": {}, "usage": {"inputTokens": 10, "outputTokens": 50, "totalTokens": 60}},
    }
    [told], _ = replay([exchange])
    # $0.80 and $3.20 a million tokens
    assert (told["error"]["code"], told["cost_usd"]) == ("invalid_request", "0.000168000")


def test_the_prices_are_those_of_the_host_and_of_the_time(replay: Replay) -> None:
    model = {
        "request": CHAT["request"] | {"model": "openai/gpt-oss-120b"},
        "response": CHAT["response"] | {"model": None},
    }
    dear, cheap = "2026-12-01T12:00:00Z", "2026-12-01T20:00:00Z"
    deepseek = {"host": "api.deepseek.com", "request": CHAT["request"] | {"model": "deepseek-chat"}}
    deepseek["response"] = CHAT["response"] | {"model": "deepseek-chat"}
    said, _ = replay(
        [CHAT | model | {"host": "api.groq.com"}, CHAT | model, at(dear, **deepseek), at(cheap, **deepseek)]
    )
    groq = PriceBook().find("openai/gpt-oss-120b", url="https://api.groq.com")
    assert groq is not None
    costs = [each["cost_usd"] for each in said]
    assert costs[0] == f"{groq.cost(Usage(10, output_tokens=50)) / 10**9:.9f}"
    assert costs[0] != costs[1]
    assert float(costs[2]) == pytest.approx(2 * float(costs[3]), rel=0.01)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"not json", "invalid_json"),
        (b'{"id": "a"', "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"[]", "invalid_line"),
        (b'{"status": "200"}', "invalid_line"),
        (b'{"status": 9}', "invalid_line"),
        (b'{"at": "yesterday"}', "invalid_line"),
        (b'{"at": "1970-01-01T00:00:00Z"}', "invalid_line"),
        (b'{"at": "9999-12-31T23:59:59Z"}', "invalid_line"),
        (b'{"workspace": "*"}', "invalid_line"),
        (b'{"workspace": ""}', "invalid_line"),
        (b'{"api_token": ""}', "invalid_line"),
        (b'{"tags": ["a"]}', "invalid_line"),
        (b'{"request": ' + b"[" * 90_000, "invalid_json"),
        (b'{"id": "' + b"x" * 100_000 + b'"}', "line_too_long"),
    ],
)
def test_a_bad_line_is_told_by_its_number_and_the_others_go_on(
    replay: Replay, monkeypatch: pytest.MonkeyPatch, line: bytes, code: str
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 100_001 if code == "invalid_json" else 10_000)
    said, ran = replay([CHAT, b"", line, CHAT])
    assert ran.code == 0
    first, bad, last = said
    assert (bad["line"], bad["error"]["code"]) == (3, code)
    assert bad["error"]["message"]
    assert first["cost_usd"] == last["cost_usd"] == CALL_COST


def test_names_that_cannot_be_counted_under_are_an_error_of_the_line(replay: Replay) -> None:
    [bad, good], _ = replay([CHAT | {"user": "x" * 200}, CHAT | {"user": "ännchen", "tags": {"a": "b"}}])
    assert bad["error"]["code"] == "invalid_request"
    assert good["error"] is None


def test_a_compressed_file_is_read_and_one_that_is_cut_is_not(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    file = tmp_path / "exchanges.jsonl.gz"
    whole = gzip.compress((json.dumps(CHAT) + "\n").encode() * 3)
    file.write_bytes(whole)
    assert len(run("replay", str(file)).out.splitlines()) == 3
    file.write_bytes(whole[:-12])
    cut = run("replay", str(file))
    assert cut.code == 2
    assert str(file) in cut.err


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_exits_with_2(run: Callable[..., Ran], name: str) -> None:
    ran = run("replay", name)
    assert (ran.code, ran.out) == (2, "")
    assert "FILE" in ran.err


def test_a_budget_blocks_who_has_spent_it_until_its_window_ends(
    replay: Replay, configured: Callable[[str], str]
) -> None:
    configured(BUDGET)
    exchanges = [at(f"2026-03-31T10:00:0{second}Z", user="ann") for second in range(3)]
    exchanges += [at("2026-03-31T10:00:09Z", user="bob"), at("2026-04-01T00:00:00Z", user="ann")]
    said, ran = replay(exchanges)
    assert [each["error"] and each["error"]["code"] for each in said] == [
        None,
        None,
        "insufficient_quota",
        None,
        None,
    ]
    [decision] = said[2]["decisions"]
    assert decision == {
        "limit": "month",
        "value": "ann",
        "projected": decision["projected"],
        "soft": "0.001200000",
        "hard": "0.001500000",
        "decision": "block",
        "mode": "enforced",
    }
    assert float(decision["projected"]) > 0.0015
    assert said[2]["cost_usd"] == CALL_COST, "what the recorded call cost"
    assert "cost as recorded: 0.002625000 USD; spent under these limits: 0.002100000 USD" in ran.err
    [row] = [line.split() for line in ran.err.splitlines() if line.startswith("month ")]
    assert row[:5] == ["month", "ann", "enforced", "1", CALL_COST]
    assert row[5:] == ["2026-03-31T10:00:02Z"] * 2


def test_a_dry_run_says_who_would_have_been_blocked_and_blocks_nobody(
    replay: Replay, configured: Callable[[str], str]
) -> None:
    configured(BUDGET + 'mode = "dry_run"\n')
    said, ran = replay([at(f"2026-03-31T10:00:0{second}Z", user="ann") for second in range(4)], "--json")
    assert [each["decisions"][0]["decision"] for each in said] == ["allow", "warn", "block", "block"]
    assert [each["error"] for each in said] == [None] * 4
    summary = json.loads(ran.err)
    assert (summary["refused"], summary["would_refuse"]) == (0, 2)
    assert summary["spent_usd"] == summary["recorded_usd"] == "0.002100000"
    assert [(row["value"], row["mode"], row["calls"]) for row in summary["blocked"]] == [
        ("ann", "dry_run", 2)
    ]


def test_rates_go_by_the_recorded_times_and_by_a_second_where_there_are_none(
    replay: Replay, configured: Callable[[str], str]
) -> None:
    configured('[[limits]]\nname = "r"\nscope = "workspace"\nmeter = "requests"\nrate = "2/3 seconds"\n')
    said, _ = replay([CHAT] * 6)
    assert [each["error"] is not None for each in said] == [False, False, True, True, False, False]
    said, _ = replay([at(f"2026-03-31T10:{minute}:00Z") for minute in range(10, 16)])
    assert [each["error"] for each in said] == [None] * 6


def test_a_stream_that_waits_for_its_rate_takes_the_clock_along(
    replay: Replay, configured: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    sleep = trial.Trial._sleep

    async def note(self: trial.Trial, seconds: float) -> None:
        waited.append(seconds)
        await sleep(self, seconds)

    monkeypatch.setattr(trial.Trial, "_sleep", note)
    configured(
        'slice_output_tokens = 20\n[[limits]]\nname = "t"\nscope = "workspace"\n'
        'meter = "output_tokens"\nrate = "60/10 seconds"\n'
    )
    chunk = {"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 90}}
    stream = CHAT | {
        "content_type": "text/event-stream",
        "response": None,
        "response_text": f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n",
        "request": CHAT["request"] | {"stream": True},
    }
    [said], ran = replay([stream], "--json")
    assert said["error"] is None
    assert sum(waited) > 5
    assert json.loads(ran.err)["cut"] == 0


def test_nothing_outside_is_asked_or_told(replay: Replay, configured: Callable[[str], str]) -> None:
    nowhere = "127.0.0.1:1"
    configured(
        f'redis_url = "redis://{nowhere}"\njournal_url = "postgresql://u:p@{nowhere}/d"\n'
        f'webhook_url = "http://{nowhere}"\nwebhook_secret = "whsec_{"A" * 32}"\n' + BUDGET
    )
    said, ran = replay([at("2026-03-31T10:00:00Z")] * 3)
    assert ran.code == 0
    assert [each["error"] is None for each in said] == [True, True, False]


def test_the_journal_of_the_trial_does_not_grow_with_the_file(
    replay: Replay, configured: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(BUDGET)
    cleared: list[str] = []
    monkeypatch.setattr(trial, "_CLEAR_EVERY", 2)
    original = RedisJournal.clear

    async def clear(self: RedisJournal, workspace: str) -> None:
        await original(self, workspace)
        cleared.append(workspace)
        assert [entry async for entry in self.entries(workspace)] == []

    monkeypatch.setattr(RedisJournal, "clear", clear)
    said, _ = replay([at("2026-03-31T10:00:00Z", user=f"u{number}") for number in range(5)])
    assert cleared == ["default", "default"]
    assert [each["error"] for each in said] == [None] * 5


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
exchanges = st.fixed_dictionaries(
    {},
    optional={
        name: anything | st.just(CHAT.get(name))
        for name in (*CHAT, "at", "workspace", "api_token", "user", "session", "agent", "tags")
    },
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(exchanges | st.binary(max_size=30), min_size=1, max_size=8))
def test_no_line_ends_a_replay(replay: Replay, given: list[object]) -> None:
    said, ran = replay([each.replace(b"\n", b" ") if isinstance(each, bytes) else each for each in given])
    assert ran.code == 0
    told = [each for each in given if not (isinstance(each, bytes) and not each.replace(b"\n", b" ").strip())]
    assert len(said) == len(told)
    for each in said:
        assert (each["error"] or {}).get("code") != "internal_error"
