"""The audit finds what is wrong with the books, and only that; usage reports add up to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis as sync_redis

from govmiddleware.app import Governance
from govmiddleware.core.call import Attribution, Call, Principal, Reading
from govmiddleware.core.demand import Demand
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.limits import Limit, Meter, Mode
from govmiddleware.core.model_price import ModelPrice, Rates
from govmiddleware.core.refusals import LimitRefusal
from govmiddleware.core.scopes import Scope
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import CalendarUnit, CalendarWindow
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.protocols.registry import UNRECOGNISED
from govmiddleware.services.audit import Difference, audit
from govmiddleware.testing.clock import Clock

PRICE = ModelPrice("m", 1000, "test", (Rates(input=10**9, output=2 * 10**9),))
"""A dollar a million tokens of input, two of output."""

COUNTERS = {
    "minute": "api_token:requests:60s:ci",
    "month": "user:cost_usd:month:ann",
    "ever": "workspace:total_tokens:lifetime:acme",
    "slots": "workspace:concurrency:now:acme",
}


class Books:
    """Governed calls on a real ledger, without HTTP."""

    def __init__(self, governance: Governance, raw: sync_redis.Redis) -> None:
        self.governance = governance
        self.raw = raw

    def call(self, *, user: str = "ann", workspace: str = "acme", **fields: Any) -> Call:
        return Call(
            new_request_id(),
            UNRECOGNISED,
            "POST",
            "/v1/chat/completions",
            model_call=True,
            principal=Principal(workspace, "ci"),
            attribution=Attribution(user=user, tags=(("team", f"team of {user}"),)),
            **{
                "model": "m",
                "price": PRICE,
                "demand": Demand(100, output=500, fixed_cost=100_000, output_femto=2 * 10**9),
                "estimated_input_tokens": 90,
                **fields,
            },
        )

    async def spend(self, output_tokens: int, **fields: Any) -> None:
        """One call that uses 100 input tokens and that much output."""
        call = self.call(**fields)
        async with self.governance.reservations.hold(call, self.governance.limits):
            call.reading, call.status, call.delivered_output_tokens = Reading.WHOLE, 200, output_tokens
            call.usage = Usage(100, output_tokens=output_tokens)

    def key(self, name: str, workspace: str = "acme") -> str:
        return WorkspaceKeys(workspace).counter(COUNTERS[name])

    def bucket(self, name: str) -> str:
        """The newest bucket of a counter that something was used in."""
        fields = map(str, self.raw.hkeys(self.key(name)))
        return max(field[1:] for field in fields if field[0] == "u" and field != "u")

    async def differences(self) -> list[Difference]:
        findings = await audit(self.governance.journal)
        assert not findings.ok
        return sorted(findings.differences, key=lambda difference: difference.window)


@pytest.fixture
async def books(
    make_governance: Callable[..., Governance], gov_store: str, gov_clock: Clock
) -> AsyncIterator[Books]:
    limits = [
        {"name": "minute", "scope": "api_token", "meter": "requests", "rate": "60/minute"},
        {"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 1},
        {"name": "ever", "scope": "workspace", "meter": "total_tokens", "window": "lifetime", "hard": 100_000},
        {"name": "slots", "scope": "workspace", "meter": "concurrency", "hard": 20},
    ]  # fmt: skip
    governance = make_governance(limits=limits, clock=gov_clock)
    with sync_redis.Redis.from_url(gov_store, decode_responses=True) as raw:
        async with governance.store():
            yield Books(governance, raw)


# The audit ---------------------------------------------------------------------------------------


async def test_books_that_nobody_touched_are_clean(books: Books) -> None:
    for output_tokens in (1, 20, 300):
        await books.spend(output_tokens)
    async with books.governance.reservations.hold(books.call(), books.governance.limits):
        findings = await audit(books.governance.journal)
    assert findings.ok
    assert findings.checked == 5, "four buckets, and the running sum of the sliding one"
    nothing = {"differences": [], "orphans": [], "lost": [], "chain": None}
    assert findings.shown() == {"ok": True, "checked": 5, **nothing}


async def test_an_empty_store_is_clean(books: Books) -> None:
    findings = await audit(books.governance.journal)
    assert (findings.ok, findings.checked) == (True, 0)


async def test_a_counter_that_was_changed_by_hand_is_found(books: Books) -> None:
    await books.spend(300)
    bucket = books.bucket("month")
    books.raw.hincrby(books.key("month"), f"u{bucket}", -500_000)
    assert await books.differences() == [
        Difference("acme", "user:cost_usd", "ann", f"month:{bucket}", 200_000, 700_000, 0)
    ]


async def test_a_running_sum_that_is_not_the_sum_of_its_buckets_is_found(books: Books) -> None:
    await books.spend(300)
    books.raw.hincrby(books.key("minute"), "u", 7)
    assert await books.differences() == [Difference("acme", "api_token:requests", "ci", "60s:sum", 8, 1, 0)]


async def test_amounts_in_a_bucket_of_which_the_books_know_nothing_are_found(books: Books) -> None:
    await books.spend(300)
    later = str(int(books.bucket("minute")) + 1)
    books.raw.hset(books.key("minute"), f"r{later}", 3)
    assert [(found.window, found.reserved) for found in await books.differences()] == [
        (f"60s:{later}", 3),
        ("60s:sum", -3),
    ]


@pytest.mark.parametrize("name", ["minute", "month", "ever"])
async def test_a_counter_that_was_lost_is_found(books: Books, name: str) -> None:
    await books.spend(300)
    async with books.governance.reservations.hold(books.call(), books.governance.limits):
        books.raw.delete(books.key(name))
        used = {"minute": 1, "month": 700_000, "ever": 400}[name]
        held = {"minute": 1, "month": 1_100_000, "ever": 600}[name]
        found = await books.differences()
        assert sum(difference.journal for difference in found) == used
        assert sum(difference.counter for difference in found) == 0
        assert sum(difference.reserved for difference in found) == -held


async def test_a_slot_that_was_lost_is_found(books: Books) -> None:
    async with books.governance.reservations.hold(books.call(), books.governance.limits):
        books.raw.delete(books.key("slots"))
        assert await books.differences() == [
            Difference("acme", "workspace:concurrency", "acme", "now:0", 0, 0, -1)
        ]


async def test_a_reservation_that_was_lost_is_an_orphan_and_its_amounts_are_found(books: Books) -> None:
    await books.spend(300)
    call = books.call()
    async with books.governance.reservations.hold(call, books.governance.limits):
        books.raw.delete(WorkspaceKeys("acme").reservation(call.request_id))
        findings = await audit(books.governance.journal)
    assert findings.orphans == [call.request_id]
    assert {f"{found.limit} {found.reserved}" for found in findings.differences if found.reserved} >= {
        "user:cost_usd 1100000",
        "workspace:total_tokens 600",
        "workspace:concurrency 1",
    }


async def test_a_record_that_was_lost_is_found(books: Books) -> None:
    await books.spend(10)
    await books.spend(300)
    journal = WorkspaceKeys("acme").journal
    lost = (books.raw.xrange(journal, count=1) or [])[0]
    books.raw.xdel(journal, str(lost[0]))
    assert {(found.limit, found.counter - found.journal) for found in await books.differences()} >= {
        ("user:cost_usd", 120_000),
        ("workspace:total_tokens", 110),
    }


async def test_counters_that_expired_with_their_window_are_not_missed(
    make_governance: Callable[..., Governance], books: Books, gov_clock: Clock
) -> None:
    gov_clock.advance(-40 * 86_400)
    earlier = make_governance(
        limits=[
            {"name": "m", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 1},
            {"name": "r", "scope": "api_token", "meter": "requests", "rate": "60/minute"},
        ],
        clock=gov_clock,
    )
    async with earlier.store():
        await Books(earlier, books.raw).spend(300)
    gov_clock.advance(40 * 86_400)
    books.raw.delete(books.key("month"), books.key("minute"))
    assert (await audit(books.governance.journal)).ok


async def test_counters_of_tags_pairs_and_shadows_may_expire_and_be_wrong_as_others_may(books: Books) -> None:
    day = CalendarWindow(CalendarUnit.DAY)
    limits = [
        Limit("a", "tag:team", Meter.REQUESTS, day, 9),
        Limit("b", "user+tag:team", Meter.REQUESTS, day, 9),
        Limit("c", Scope.USER, Meter.REQUESTS, day, 9, mode=Mode.DRY_RUN),
    ]
    async with books.governance.reservations.hold(books.call(), limits):
        pass
    for key in books.raw.scan_iter("gov:{acme}:c:*"):
        books.raw.delete(key)
    assert {found.limit for found in await books.differences()} == {
        "tag:team:requests",
        "user+tag:team:requests",
        "dry_run:user:requests",
    }


async def test_workspaces_are_told_apart(books: Books) -> None:
    await books.spend(300)
    await books.spend(100, workspace="zeta")
    assert (await audit(books.governance.journal)).ok
    books.raw.hincrby(books.key("month", "zeta"), f"u{books.bucket('month')}", 1)
    assert [found.workspace for found in await books.differences()] == ["zeta"]


async def test_the_audit_is_right_while_traffic_runs(books: Books) -> None:
    async def traffic() -> None:
        for output_tokens in range(15):
            await asyncio.gather(*(books.spend(output_tokens, user=user) for user in ("ann", "bob", "eve")))

    running, audits = asyncio.create_task(traffic()), 0
    while not running.done():
        findings = await audit(books.governance.journal)
        assert findings.ok, findings.shown()
        audits += 1
    await running
    assert audits > 1


# Usage reports -----------------------------------------------------------------------------------


async def test_a_report_adds_up_and_its_groups_do_too(books: Books) -> None:
    for output_tokens, user, model in [(10, "ann", "m"), (200, "bob", "m"), (3, "ann", "m-mini")]:
        await books.spend(output_tokens, user=user, model=model)
    await books.spend(900, user="ann")  # 800 nano-USD past what was reserved
    async with books.governance.reservations.hold(books.call(user="eve"), books.governance.limits):
        by_user = await books.governance.usage.report(by="user")
        by_model = await books.governance.usage.report(by="model")
    assert by_user["totals"] == by_model["totals"]
    assert by_user["totals"] == {
        "requests": 4,
        "refused": 0,
        "input_tokens": 400,
        "cached_tokens": 0,
        "output_tokens": 1113,
        "reasoning_tokens": 0,
        "total_tokens": 1513,
        "cost_usd": "0.002626000",
        "reserved_usd": "0.001100000",
        "debt_usd": "0.000800000",
    }
    groups: Any = by_user["groups"]
    assert [(group["id"], group["requests"], group["cost_usd"]) for group in groups] == [
        ("ann", 3, "0.002126000"),
        ("bob", 1, "0.000500000"),
        ("eve", 0, "0.000000000"),
    ]
    for report in (by_user, by_model):
        groups, totals = report["groups"], report["totals"]
        for name, total in totals.items():  # type: ignore[attr-defined]
            assert sum(float(group[name]) for group in groups) == pytest.approx(float(total), abs=1e-9)


async def test_a_report_shows_where_each_limit_stands(books: Books) -> None:
    await books.spend(300)
    async with books.governance.reservations.hold(books.call(), books.governance.limits):
        limits: Any = (await books.governance.usage.report())["limits"]
        assert limits == await books.governance.usage.limit_states()
    states = {limit["name"]: limit for limit in limits}
    assert {name: (state["used"], state["reserved"], state["remaining"]) for name, state in states.items()} == {
        "minute": (1, 1, 58),
        "month": ("0.000700000", "0.001100000", "0.998200000"),
        "ever": (400, 600, 99_000),
        "slots": (0, 1, 19),
    }  # fmt: skip
    assert states["month"]["value"] == "ann"
    assert states["month"]["resets_at"].endswith("-01T00:00:00Z")
    assert states["minute"]["resets_at"] is None


async def test_a_report_of_a_time_leaves_out_the_rest(books: Books) -> None:
    await books.spend(10)
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    for since, until, requests in [
        (now - hour, None, 1),
        (now + hour, None, 0),
        (None, now - hour, 0),
        (now - hour, now + hour, 1),
    ]:
        totals: Any = (await books.governance.usage.report(since=since, until=until))["totals"]
        assert totals["requests"] == requests


async def test_a_report_can_be_of_one_group_or_tag_or_workspace(books: Books) -> None:
    await books.spend(10, user="ann")
    await books.spend(20, user="bob", workspace="zeta")
    report = books.governance.usage.report

    async def ids(**asked: Any) -> list[str]:
        groups: Any = (await report(**asked))["groups"]
        return [group["id"] for group in groups]

    assert await ids(by="user") == ["bob", "ann"]
    assert await ids(by="user", only="ann") == ["ann"]
    assert await ids(by="tag:team") == ["team of bob", "team of ann"]
    assert await ids(by="tag:nobody") == []
    assert await ids(by="workspace", workspaces=["acme"]) == ["acme"]
    for wrong in ("tag:", "colour", ""):
        with pytest.raises(ValueError, match="expected one of"):
            await report(by=wrong)


async def test_a_refused_call_costs_nothing_in_the_report(books: Books) -> None:
    tight = tuple(
        Limit(limit.name, limit.scope, limit.meter, limit.window, 5) if limit.scope == Scope.USER else limit
        for limit in books.governance.limits
    )
    with pytest.raises(LimitRefusal):
        async with books.governance.reservations.hold(books.call(), tight):
            pytest.fail("it was admitted")
    totals: Any = (await books.governance.usage.report())["totals"]
    assert (totals["requests"], totals["cost_usd"]) == (0, "0.000000000")
    assert (await audit(books.governance.journal)).ok
