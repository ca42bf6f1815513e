"""Whatever clients send, the number of series stays what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from govmiddleware.core.call import AnswerEnd, Attribution, Call, Principal, Settlement
from govmiddleware.core.demand import Demand
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.model_price import ModelPrice, Rates
from govmiddleware.core.refusals import BudgetExhausted, Decision, Evaluation
from govmiddleware.core.scopes import Scope
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import Lifetime
from govmiddleware.metrics import MOST_STORED_LIMITS, Metrics
from govmiddleware.protocols.registry import UNRECOGNISED

NAMES = 100_000
USED = Usage(100, output_tokens=50)

Series = set[tuple[str, tuple[tuple[str, str], ...]]]


def series(metrics: Metrics) -> Series:
    """Every series that is shown, but for what the process tells of itself."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in metrics.registry.collect()
        if family.name.startswith("govmiddleware_")
        for sample in family.samples
    }


def test_a_hundred_thousand_users_models_tags_sessions_and_agents_add_no_series() -> None:
    call = Call(
        "req_1",
        UNRECOGNISED,
        "POST",
        "/",
        model_call=True,
        provider="default",
        price=ModelPrice(
            "*", None, "configured", (Rates(input=10**9),)
        ),  # else nobody gets far with such a model
        demand=Demand(100, output=200, fixed_cost=100_000, output_femto=10**9),
        estimated_input_tokens=90,
        shows_its_size=True,
        stream=True,
        answer_end=AnswerEnd.WHOLE,
        first_byte=0.0,
        status=200,
    )
    metrics = Metrics(CollectorRegistry())

    def settle() -> None:
        metrics.settled(call, USED, 1, Settlement.EXACT)

    ways: tuple[Callable[[], None], ...] = (
        lambda: metrics.ended(call),
        lambda: metrics.estimated(call, USED),
        lambda: metrics.calibrated(call, 0, 1.5),
    )
    for count in (*ways, settle):
        count()
    before = series(metrics)
    for number in range(NAMES):
        name = f"name-{number}"
        call.request_id = call.method = call.path = call.model = call.model_served = call.service_tier = name
        call.principal = Principal(name, name, user=name, agent=name)
        call.attribution = Attribution(name, name, name, ((name, name),))
        ways[number % len(ways)]()
        if number % 10 == 0:  # it takes longest
            settle()
    assert series(metrics) == before


def test_limits_that_people_create_have_their_names_up_to_a_number_and_those_of_the_file_always() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.know_limits(["late"])
    limit = Limit("", Scope.USER, Meter.REQUESTS, Lifetime(), 1)
    for name in (*(f"stored-{number}" for number in range(5 * MOST_STORED_LIMITS)), "late"):
        evaluation = Evaluation(replace(limit, name=name), "ann", 1, 0, 2, Decision.BLOCK)
        refusal = BudgetExhausted("no", (evaluation,), None)
        metrics.refused(refusal)
        metrics.would_refuse(refusal)
        metrics.crossed(evaluation.limit, "hard")
    for name in ("refusals", "dry_run_refusals", "limit_events"):
        named = {
            dict(labels)["limit"]
            for metric, labels in series(metrics)
            if metric == f"govmiddleware_{name}_total"
        }
        assert len(named) == MOST_STORED_LIMITS + 2, "late, and other"
        assert {"stored-0", f"stored-{MOST_STORED_LIMITS - 1}", "late", "other"} <= named


async def test_requests_that_differ_in_all_that_a_client_can_say_add_no_series(
    governed: Callable[..., Awaitable[Any]], inside: Any, post: Callable[..., Awaitable[httpx.Response]]
) -> None:
    anything = {"model": "*", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "max_output_tokens": 100}
    once = {"name": "once", "scope": "tag:team", "meter": "requests", "window": "day", "hard": 1}
    governance = await governed(prices=[anything], limits=[once], login_throttle="1000/minute")
    app = governance.stack(inside)

    async def send(name: str) -> None:
        headers = {
            "x-gov-user": name,
            "x-gov-session": name,
            "x-gov-agent": name,
            "x-gov-tags": f"team={name}",
            "x-request-id": name,
        }
        said = {"model": name, "headers": headers, "user": name}
        answers = [
            await post(app, **said),
            await post(app, **said),
            await post(app, **said, stream=True),
            await post(app, secret=f"gov_{name}", **said),
            await post(app, headers={"x-gov-tags": f"team=other-{name}"}, path=f"/v1/{name}"),
            await post(app, headers={"x-gov-tags": f"team=third-{name}"}, content=name.encode()),
        ]
        assert [answer.status_code for answer in answers] == [200, 429, 429, 401, 404, 400]

    await send("first")
    before = series(governance.metrics)
    await asyncio.gather(*(send(f"name-{number}") for number in range(8)))
    assert series(governance.metrics) == before
