"""`governance.call(...)`: a block of code that calls a model by whatever means."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.inside.books import read_books
from tests.inside.speaking import SAY, SCRIPT

from govmiddleware import Attribution, NoCaller, Principal, Refusal, UpstreamUnreachable, govern
from govmiddleware.core.refusals import BudgetExhausted, InvalidRequest, ModelNotPriced
from govmiddleware.inside import GovernedBlock

MONTH = {"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 1}
DAY = {"name": "day", "scope": "user", "meter": "requests", "window": "day", "hard": 100}
GUESS: dict[str, Any] = {"texts": ["Say hello."], "max_output_tokens": 100, "principal": SCRIPT}


async def test_what_is_reported_is_charged_exactly(governance_with) -> None:
    governance = governance_with(limits=[MONTH, DAY])
    async with governance.call("m", **GUESS) as call:
        call.usage(input_tokens=1, output_tokens=1)
        call.usage(input_tokens=30, output_tokens=20, reasoning_tokens=5, cached_tokens=10, model="m-2026")
    [record] = await read_books(governance)
    assert (record["settlement"], record["outcome"], record["cost_usd"]) == (
        "exact",
        "answered",
        "0.000070000",
    )
    assert {name: count for name, count in record["usage"].items() if count} == {
        "input_tokens": 30,
        "cached_tokens": 10,
        "output_tokens": 20,
        "reasoning_tokens": 5,
    }
    assert (record["protocol"], record["model_requested"], record["model_served"]) == ("code", "m", "m-2026")
    assert record["request_id"] == call.request_id
    assert record["holds"] == {"user:cost_usd:month:anonymous": 70_000, "user:requests:day:anonymous": 1}


async def test_without_a_report_it_is_charged_as_reserved(governance_with) -> None:
    governance = governance_with(limits=[MONTH])
    async with governance.call("m", **GUESS) as call:
        reserved = call.estimated_cost_usd
    [record] = await read_books(governance)
    assert (record["settlement"], record["outcome"]) == ("estimated", "answered")
    assert record["cost_usd"] == record["bound"]["cost_usd"] == reserved > "0.0002"


@pytest.mark.parametrize(
    ("error", "settlement", "is_free"),
    [
        (RuntimeError("in the middle"), "aborted", False),
        (asyncio.CancelledError(), "aborted", False),
        (httpx.ReadError("it broke off"), "aborted", False),
        (UpstreamUnreachable("it broke off", sent=True), "aborted", False),
        (httpx.ConnectError("nobody there"), "exact", True),
        (UpstreamUnreachable("nobody there", sent=False), "exact", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
async def test_a_block_that_raises_is_charged_as_reserved_unless_nothing_was_sent(
    governance_with, error, settlement, is_free
) -> None:
    governance = governance_with(limits=[MONTH])
    with pytest.raises(type(error)) as raised:
        async with governance.call("m", **GUESS):
            raise error
    assert raised.value is error
    [record] = await read_books(governance)
    assert (record["settlement"], record["outcome"]) == (settlement, "aborted")
    assert record["cost_usd"] == ("0.000000000" if is_free else record["bound"]["cost_usd"])


async def test_what_was_reported_before_it_raised_is_charged(governance_with) -> None:
    governance = governance_with()
    call = governance.call("m", **GUESS)
    with pytest.raises(httpx.ConnectError):
        async with call:
            raise _reported(call)
    [record] = await read_books(governance)
    assert (record["settlement"], record["outcome"], record["cost_usd"]) == (
        "exact",
        "aborted",
        "0.000070000",
    )


def _reported(call: GovernedBlock) -> Exception:
    call.usage(input_tokens=30, output_tokens=20)
    return httpx.ConnectError("the second time nobody was there")


async def test_a_block_that_cannot_be_entered_is_counted_and_logged_too(governance_with, caplog) -> None:
    caplog.set_level(logging.INFO, "govmiddleware.requests")
    governance = governance_with()
    with pytest.raises(TypeError):
        async with governance.call("m", messages=[{"role": object()}], principal=SCRIPT):
            raise AssertionError("nobody can read that")
    counted = governance.metrics.registry.get_sample_value
    labels = {"protocol": "code", "provider": "none", "model": "other", "status": "none"}
    assert counted("govmiddleware_requests_total", labels) == 1
    assert "error=TypeError" in caplog.text


async def test_a_refusal_is_raised_before_the_block(governance_with) -> None:
    governance = governance_with(limits=[MONTH | {"hard": 0}])
    with pytest.raises(BudgetExhausted, match="'month'") as refused:
        async with governance.call("m", **GUESS):
            raise AssertionError("it had to be refused")
    assert refused.value.failures[0].limit.name == "month"
    with pytest.raises(ModelNotPriced):
        async with governance.call("unheard-of", **GUESS):
            pass
    records = await read_books(governance)
    assert sorted((record["kind"], record["outcome"]) for record in records) == [
        ("refusal", "insufficient_quota"),
        ("refusal", "model_not_priced"),
    ]


async def test_a_block_is_told_how_much_may_be_generated(governance_with) -> None:
    odd = {"model": "odd", "input_usd_per_mtok": 0, "output_usd_per_mtok": 1}
    model = {"model": "m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "max_output_tokens": 1000}
    tokens = {"name": "tokens", "scope": "user", "meter": "output_tokens", "window": "day", "hard": 1070}
    governance = governance_with(prices=[odd, model], limits=[tokens], default_max_output_tokens=77)
    told = {}
    for name, most in (("m", 50), ("m", None), ("odd", None), ("m", 0)):
        async with governance.call(name, input_tokens=5, max_output_tokens=most, principal=SCRIPT) as call:
            told[name, most] = call.max_output_tokens
            call.usage(input_tokens=5)
    assert told == {("m", 50): 50, ("m", None): 1000, ("odd", None): 77, ("m", 0): 0}
    large = {"input_tokens": 5, "max_output_tokens": 900, "principal": SCRIPT}
    async with governance.call("m", **large) as first, governance.call("m", **large) as second:
        assert (first.max_output_tokens, second.max_output_tokens) == (900, 170), "clamped"


async def test_messages_are_counted_as_the_transport_counts_them(
    governance_with, provider, speaker_on
) -> None:
    governance = governance_with()
    await speaker_on("httpx2, asynchronous", governance.transport(principal=SCRIPT)).say()
    prompt: Any = SAY["messages"]
    async with governance.call("m", messages=prompt, max_output_tokens=100, principal=SCRIPT):
        pass
    sent, block = await read_books(governance)
    assert (sent["estimate"], sent["bound"]) == (block["estimate"], block["bound"])
    with pytest.raises(InvalidRequest, match="A message must be an object"):
        async with governance.call("m", messages=["hello"], principal=SCRIPT):  # type: ignore[list-item]
            pass


async def test_it_is_made_for_the_running_request_or_for_who_is_named(governance_with, ask) -> None:
    governance = governance_with()
    named = Attribution(session="run-7", tags=(("step", "1"), ("team", "b")))
    pinned = Principal(workspace="acme", api_token="nightly", user="robot", tags=(("team", "a"),))

    async def endpoint(request: Request) -> Response:
        async with governance.call("m", attribution=named, principal=pinned):
            return Response()

    async with governance.call("m", attribution=named, principal=pinned):
        pass
    app = Starlette(routes=[Route("/ask", endpoint, methods=["POST"])])
    await ask(govern(app, governance, paths=["/ask"]))
    alone, inner, outer = await read_books(governance)
    assert (alone["api_token"], alone["user"], alone["session"]) == ("nightly", "robot", "run-7")
    assert (alone["tags"], alone["parent_request_id"]) == ({"step": "1", "team": "a"}, None)
    assert (inner["api_token"], inner["user"], inner["session"]) == ("ci", "ann", "run-7")
    assert (inner["tags"], inner["parent_request_id"]) == ({"step": "1", "team": "b"}, outer["request_id"])


async def test_mistakes_are_told(governance_with) -> None:
    governance = governance_with()
    with pytest.raises(TypeError, match="a list of texts"):
        governance.call("m", texts="hello")
    with pytest.raises(NoCaller):
        async with governance.call("m"):
            pass
    with pytest.raises(RuntimeError, match="not entered"):
        _ = governance.call("m", **GUESS).request_id
    with pytest.raises(ValueError, match="below 0"):
        async with governance.call("m", **GUESS) as call:
            call.usage(input_tokens=-1)


def test_synchronous_code_has_it_too(make_governance) -> None:
    from tests.inside.conftest import settings

    governance = make_governance(**settings(limits=[MONTH]))
    with governance:
        with governance.call("m", **GUESS) as call:
            call.usage(input_tokens=30, output_tokens=20)
        with pytest.raises(ZeroDivisionError), governance.call("m", **GUESS):
            _ = 1 / 0
        with pytest.raises(Refusal), governance.call("unheard-of", **GUESS):
            pass
    records = asyncio.run(read_books(make_governance()))
    assert [record["settlement"] for record in records] == ["exact", "aborted", None]
