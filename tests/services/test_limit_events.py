"""Crossing a soft or hard value is told once for each limit, value and window: in the log, in a metric and to a
webhook, on a real server."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.webhook import SECRET, Receiver, is_signed

from govmiddleware.app import Governance
from govmiddleware.core.call import Call, Principal, Reading
from govmiddleware.core.demand import Demand
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.limits import Limit, Meter, Mode
from govmiddleware.core.model_price import ModelPrice, Rates
from govmiddleware.core.refusals import LimitRefusal
from govmiddleware.core.scopes import Scope
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, SlidingWindow
from govmiddleware.protocols.registry import UNRECOGNISED
from govmiddleware.services import webhook_delivery
from govmiddleware.testing.clock import Clock
from govmiddleware.testing.server import serve_in_thread

PRICE = ModelPrice("m", None, "test", (Rates(input=10**12),))
"""A thousandth of a dollar a token."""
DAY = CalendarWindow(CalendarUnit.DAY)


def limit(
    *, soft: int | None = 50, hard: int = 100, mode: Mode = Mode.ENFORCED, **fields: Any
) -> tuple[Limit]:
    """On a user's tokens in a day."""
    given = {"name": "tokens", "scope": Scope.USER, "meter": Meter.TOTAL_TOKENS, "window": DAY, **fields}
    return (Limit(**given, soft=soft, hard=hard, mode=mode),)


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    receiver = Receiver()
    with serve_in_thread(receiver, lifespan="off") as server:
        yield receiver, f"{server.url}/services/T0/B0/secret?way=1"


@pytest.fixture(autouse=True)
def tries_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_delivery, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
async def governance(
    make_governance: Callable[..., Governance], receiver: tuple[Receiver, str], gov_clock: Clock
) -> AsyncIterator[Governance]:
    made = make_governance(webhook_url=receiver[1], webhook_secret=SECRET, clock=gov_clock)
    async with made.store():
        yield made
        await made.webhook.close()


async def use(
    governance: Governance,
    limits: tuple[Limit, ...],
    tokens: int,
    *,
    user: str = "ann",
    workspace: str = "acme",
) -> str:
    """One call; returns its id."""
    call = Call(
        new_request_id(),
        UNRECOGNISED,
        "POST",
        "/",
        model_call=True,
        principal=Principal(workspace, "ci", user=user),
    )
    call.attribution = type(call.attribution)(user=user)
    call.demand = Demand(input_tokens=tokens, output=0, fixed_cost=tokens * 10**6, output_femto=0)
    call.price = PRICE
    with suppress(LimitRefusal):
        async with governance.reservations.hold(call, limits):
            call.reading, call.status, call.usage = Reading.WHOLE, 200, Usage(tokens)
    return call.request_id


def told(governance: Governance) -> dict[tuple[str, str], float]:
    """The metric."""
    samples = [
        sample for metric in governance.metrics.limit_events.collect() for sample in metric.samples
        if sample.name.endswith("_total")
    ]  # fmt: skip
    return {(sample.labels["limit"], sample.labels["past"]): sample.value for sample in samples}


def messages(governance: Governance, outcome: str) -> float | None:
    registry = governance.metrics.registry
    return registry.get_sample_value("govmiddleware_webhook_messages_total", {"outcome": outcome})


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# One event ---------------------------------------------------------------------------------------


async def test_fifty_calls_at_once_that_cross_both_values_raise_one_event_of_each(
    governance: Governance, receiver: tuple[Receiver, str], caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.gather(*(use(governance, limit(), 7) for _ in range(50)))
    await until(lambda: len(receiver[0].taken) == 2)
    await governance.webhook.close()
    assert sorted(each["type"] for each in receiver[0].taken) == ["limit.hard", "limit.soft"]
    assert told(governance) == {("tokens", "soft"): 1, ("tokens", "hard"): 1}
    lines = [record for record in caplog.records if record.name == "govmiddleware.limits"]
    assert [line.levelno for line in lines] == [logging.WARNING] * 2


async def test_another_user_has_events_of_its_own_and_so_has_another_workspace(
    governance: Governance, receiver: tuple[Receiver, str]
) -> None:
    for user, workspace in [("ann", "acme"), ("bob", "acme"), ("ann", "zeta"), ("bob", "acme")]:
        await use(governance, limit(), 60, user=user, workspace=workspace)
    await governance.webhook.close()
    soft = [each for each in receiver[0].taken if each["type"] == "limit.soft"]
    assert sorted((each["workspace"], each["value"]) for each in soft) == [
        ("acme", "ann"),
        ("acme", "bob"),
        ("zeta", "ann"),
    ]
    assert len({each["id"] for each in receiver[0].taken}) == 4


@pytest.mark.parametrize(
    ("window", "seconds", "kind"), [(DAY, 86_400, "budget"), (SlidingWindow(60), 180, "rate")]
)
async def test_the_next_window_has_an_event_again_under_another_id(
    governance: Governance,
    receiver: tuple[Receiver, str],
    gov_clock: Clock,
    window: CalendarWindow | SlidingWindow,
    seconds: int,
    kind: str,
) -> None:
    for _ in range(2):
        await use(governance, limit(window=window), 60)
        await use(governance, limit(window=window), 10)
        gov_clock.advance(seconds)
    await governance.webhook.close()
    assert [each["type"] for each in receiver[0].taken] == ["limit.soft"] * 2
    assert len({each["id"] for each in receiver[0].taken}) == 2
    labels = {"limit": "tokens", "kind": kind, "past": "soft"}
    assert governance.metrics.registry.get_sample_value("govmiddleware_limit_events_total", labels) == 2


@pytest.mark.parametrize("mode", [Mode.DRY_RUN, Mode.SUGGEST])
async def test_limits_that_refuse_nothing_raise_events_too(
    governance: Governance, receiver: tuple[Receiver, str], mode: Mode
) -> None:
    for _ in range(4):
        await use(governance, limit(mode=mode), 40)
    await governance.webhook.close()
    events = {each["type"]: each for each in receiver[0].taken}
    assert len(receiver[0].taken) == 2
    assert events["limit.hard"]["mode"] == events["limit.soft"]["mode"] == mode.value
    assert f"Nothing is refused, as it is in mode {mode.value}." in events["limit.hard"]["text"]


async def test_a_limit_over_the_whole_deployment_has_one_event_for_all_workspaces(
    governance: Governance, receiver: tuple[Receiver, str]
) -> None:
    for workspace in ("acme", "zeta", "acme"):
        await use(governance, limit(scope=Scope.DEPLOYMENT), 30, workspace=workspace)
    await governance.webhook.close()
    assert [(each["type"], each["workspace"]) for each in receiver[0].taken] == [("limit.soft", "zeta")]


# What it says ------------------------------------------------------------------------------------


async def test_a_message_says_which_limit_and_how_far_as_json_that_slack_takes(
    governance: Governance, receiver: tuple[Receiver, str]
) -> None:
    money = limit(name="budget", meter=Meter.COST_USD, soft=80 * 10**6, hard=100 * 10**6)
    await use(governance, money, 30, user="a<b>&c")
    request_id = await use(governance, money, 55, user="a<b>&c")
    await governance.webhook.close()
    [(headers, body)] = receiver[0].attempts
    assert headers["content-type"] == "application/json"
    event = json.loads(body)
    assert event.pop("at").endswith("Z")
    assert event.pop("id") == headers["webhook-id"]
    assert event == {
        "text": (
            "Limit 'budget' of workspace acme is past its soft value: user 'a&lt;b&gt;&amp;c' is at 0.085000000 of"
            " 0.100000000 USD (85%)."
        ),
        "type": "limit.soft",
        "workspace": "acme",
        "limit": "budget",
        "scope": "user",
        "value": "a<b>&c",
        "meter": "cost_usd",
        "window": "day",
        "mode": "enforced",
        "soft": "0.080000000",
        "hard": "0.100000000",
        "consumed": "0.030000000",
        "reserved": "0.000000000",
        "projected": "0.085000000",
        "percent": 85,
        "request_id": request_id,
    }


# Delivery ----------------------------------------------------------------------------------------


async def test_a_receiver_that_fails_twice_gets_the_same_message_under_the_same_id_each_time(
    governance: Governance, receiver: tuple[Receiver, str]
) -> None:
    receiver[0].statuses = [500, 429]
    await use(governance, limit(), 60)
    await until(lambda: receiver[0].taken)
    assert len(receiver[0].attempts) == 3
    assert len({(headers["webhook-id"], body) for headers, body in receiver[0].attempts}) == 1
    for headers, body in receiver[0].attempts:
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        assert is_signed(headers, body)
    await until(lambda: messages(governance, "delivered") == 1)


async def test_at_the_end_what_is_left_is_tried_once_more(
    governance: Governance, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "_FIRST_PAUSE_SECONDS", 600)
    receiver[0].statuses = [503]
    await use(governance, limit(), 60)
    await until(lambda: receiver[0].attempts)
    await governance.webhook.close()
    assert [each["type"] for each in receiver[0].taken] == ["limit.soft"]


async def test_a_message_that_nobody_takes_is_told_of_and_its_url_is_not(
    make_governance: Callable[..., Governance], caplog: pytest.LogCaptureFixture
) -> None:
    async with make_governance(
        webhook_url="http://127.0.0.1:9/services/hush", webhook_secret=SECRET
    ) as governance:
        started = asyncio.get_running_loop().time()
        await use(governance, limit(), 60)
        assert asyncio.get_running_loop().time() - started < 2, "no request waits for a receiver"
        await until(lambda: "trying again" in caplog.text)
    assert messages(governance, "failed") == 1
    assert "was not delivered (failed)" in caplog.text
    assert "hush" not in caplog.text


async def test_a_receiver_that_is_gone_is_not_asked_again(
    governance: Governance, receiver: tuple[Receiver, str]
) -> None:
    receiver[0].statuses = [410]
    await use(governance, limit(), 60)
    await until(lambda: messages(governance, "failed") == 1)
    assert len(receiver[0].attempts) == 1


async def test_an_hour_of_trying_is_the_end(
    governance: Governance, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "_GIVE_UP_SECONDS", 0.0)
    receiver[0].statuses = [500] * 9
    await use(governance, limit(), 60)
    await until(lambda: messages(governance, "failed") == 1)
    assert len(receiver[0].attempts) == 1


async def test_what_waits_is_bounded(
    governance: Governance, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "_MOST_WAITING", 2)
    monkeypatch.setattr(webhook_delivery, "_FIRST_PAUSE_SECONDS", 600)
    receiver[0].statuses = [500] * 2
    for user in ("ann", "bob", "eve"):
        await use(governance, limit(), 60, user=user)
    assert messages(governance, "dropped") == 1
    await until(lambda: len(receiver[0].attempts) == 2)
    await governance.webhook.close()
    assert {each["value"] for each in receiver[0].taken} == {"ann", "bob"}
