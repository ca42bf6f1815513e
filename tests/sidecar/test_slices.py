"""Long streams reserve in slices: they grow while the limits have room, and then end as if the model had."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import openai
import pytest
from starlette.types import Receive, Scope, Send
from tests.sidecar.books import Books
from tests.sidecar.conftest import RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.testing import Script, serve_in_thread
from govmiddleware.testing.bell import Gate

Run = Callable[..., RunningSidecar]
OUTPUT = {"name": "output", "scope": "user", "meter": "output_tokens", "window": "day", "hard": 1500}
MONEY = {"name": "money", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": "0.01"}
ASK: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Go on."}],
    "max_tokens": 100_000,
    "stream": True,
}


class Endless:
    """A provider that says nothing about usage and never ends.

    Args:
        events: of one word each, in one chunk.
        shift: cuts the chunks so many bytes into an event.
    """

    def __init__(self, events: int = 1, shift: int = 0) -> None:
        self.events = events
        self.shift = shift
        self.said = 0
        self.stopped = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await receive()
        left = asyncio.ensure_future(receive())  # by the client
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        rest = b""
        while not left.done():
            whole = rest + b"".join(self._event() for _ in range(self.events))
            cut = len(whole) - self.shift
            rest = whole[cut:]
            await send({"type": "http.response.body", "body": whole[:cut], "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})
        self.stopped = True

    def _event(self) -> bytes:
        self.said += 1
        choice = {"index": 0, "delta": {"content": f"word{self.said % 10} "}, "finish_reason": None}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
        return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


@pytest.mark.parametrize(("events", "shift"), [(1, 0), (1, 40), (40, 17), (400, 3)])
@pytest.mark.parametrize("limit", [OUTPUT, MONEY | {"hard": "0.001"}])
def test_a_stream_that_never_ends_is_ended_at_the_limit_as_if_by_the_model(
    run_sidecar: Run, books: Books, events: int, shift: int, limit: dict[str, Any]
) -> None:
    provider = Endless(events, shift)
    with serve_in_thread(provider) as upstream:
        sidecar = run_sidecar(upstream=upstream.url, limits=[limit], slice_output_tokens=400)
        chunks = list(sidecar.client(max_retries=0).chat.completions.create(**ASK))
        until(lambda: provider.stopped)
    assert chunks[-1].choices[0].finish_reason == "length"
    [record] = books.records()
    assert (record.outcome, record.settlement) == ("cut", "aborted")
    decisions = [(each.limit, each.decision) for each in record.evaluations]
    assert decisions == [(limit["name"], "allow"), (limit["name"], "block")], "by which limit, once"
    said = sum(bool(chunk.choices[0].delta.content) for chunk in chunks)
    tokens = record.usage.output_tokens if record.usage else 0
    assert said <= tokens <= 3 * said
    room = 1500 if limit is OUTPUT else round(Decimal("0.001") / Decimal("0.0000006"))
    assert room - 450 < tokens <= room, "nearly all that the limit has, and no more"
    assert books.audit().ok
    assert books.usage()["debt_usd"] == "0.000000000"


def test_a_stream_that_fits_grows_to_what_it_needs_and_settles_what_it_used(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar(limits=[OUTPUT, MONEY], slice_output_tokens=64)
    sidecar.provider.script = Script(text="word " * 300, pieces=300)
    chunks = list(sidecar.client().chat.completions.create(**ASK | {"max_tokens": 1200}))
    assert chunks[-1].choices[0].finish_reason == "stop"
    [record] = until(books.records)
    assert (record.settlement, record.usage and record.usage.output_tokens) == ("exact", 300)
    assert record.bound is not None
    assert record.bound["output_tokens"] == 1200
    assert Decimal(record.reserved_usd or 0) < Decimal(record.bound["cost_usd"])
    assert books.audit().ok


def test_the_first_slice_is_all_that_is_held_when_a_stream_begins(run_sidecar: Run, books: Books) -> None:
    """So that many can run where the whole bound of one alone would not fit."""
    sidecar = run_sidecar(limits=[OUTPUT], slice_output_tokens=100)
    gate = Gate()
    sidecar.provider.script = Script(text="word " * 10, gate=gate)
    client = sidecar.client(max_retries=0)
    streams = [client.chat.completions.create(**ASK | {"user": "ann"}) for _ in range(10)]
    until(lambda: books.open_reservations() == 10)
    gate.open()
    assert all(list(stream)[-1].choices[0].finish_reason == "stop" for stream in streams)


def test_while_it_runs_the_gauge_says_what_it_could_cost_beyond_its_reservation(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar(limits=[MONEY], slice_output_tokens=500)
    gate = Gate()
    sidecar.provider.script = Script(text="word " * 10, gate=gate)
    ask = ASK | {"max_tokens": 10_000}
    stream = sidecar.client(max_retries=0).chat.completions.create(**ask)

    def exposed() -> float:
        registry = sidecar.governance.metrics.registry
        return registry.get_sample_value("govmiddleware_overspend_bound_usd") or 0.0

    assert exposed() == pytest.approx((10_000 - 500) * 0.0000006)
    gate.open()
    list(stream)
    until(lambda: exposed() == 0)


def test_a_stream_that_outruns_a_rate_waits_for_it(run_sidecar: Run, books: Books) -> None:
    rate = {"name": "rate", "scope": "user", "meter": "output_tokens", "rate": "400/second"}
    provider = Endless(events=20)
    with serve_in_thread(provider) as upstream:
        sidecar = run_sidecar(upstream=upstream.url, limits=[rate, OUTPUT], slice_output_tokens=200)
        started = time.monotonic()
        chunks = list(sidecar.client(max_retries=0).chat.completions.create(**ASK))
        assert time.monotonic() - started > 1.5, "1,500 tokens at 400 a second"
    assert chunks[-1].choices[0].finish_reason == "length"
    [record] = books.records()
    assert record.usage is not None
    assert record.usage.output_tokens > 1000
    assert books.audit().ok


@pytest.mark.parametrize(
    "more", [{"model": "o3-mini"}, {"extra_body": {"include_reasoning": False}}, {"stream": False}]
)
def test_what_may_bill_more_than_it_shows_reserves_its_whole_bound(run_sidecar: Run, more: Any) -> None:
    sidecar = run_sidecar(limits=[OUTPUT], slice_output_tokens=100, clamp_min_output_tokens=10**6)
    with pytest.raises(openai.RateLimitError):
        sidecar.client(max_retries=0).chat.completions.create(**ASK | {"max_tokens": 1600} | more)


def test_without_slices_a_stream_is_held_to_what_is_left(run_sidecar: Run) -> None:
    sidecar = run_sidecar(limits=[OUTPUT], slice_output_tokens=0)
    sidecar.provider.script = Script(text="word " * 5000, pieces=100)
    chunks = list(sidecar.client().chat.completions.create(**ASK))
    assert chunks[-1].choices[0].finish_reason == "length"
    assert sidecar.provider.exchanges[0].body is not None
    assert sidecar.provider.exchanges[0].body["max_tokens"] == 1500


def test_a_stream_of_several_choices_ends_each(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar(limits=[OUTPUT], slice_output_tokens=100)
    sidecar.provider.script = Script(text="word " * 2000, pieces=2000)
    finished = {}
    for chunk in sidecar.client().chat.completions.create(**ASK, n=2):
        for choice in chunk.choices:
            finished[choice.index] = choice.finish_reason or finished.get(choice.index)
    assert finished == {0: "length", 1: "length"}
    [record] = until(books.records)
    assert record.usage is not None
    assert record.usage.output_tokens <= 1500
