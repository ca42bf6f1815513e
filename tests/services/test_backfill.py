"""A limit that comes into force in mid-window finds what was used since the window began."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis as sync_redis
from tests.services.draining import drain
from tests.services.test_audit import Books

from govmiddleware.app import Governance
from govmiddleware.core.call import Reading
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.core.usage import Usage
from govmiddleware.errors import StoreUnavailable
from govmiddleware.services.audit import audit
from govmiddleware.testing.clock import Clock


class Deployment(Books):
    """Calls, limits that come and go, and the time between."""

    clock: Clock

    async def limit(self, name: str = "late", **fields: Any) -> None:
        fields = {"scope": "user", "meter": "cost_usd", "window": "month", "hard": 1} | fields
        await self.governance.limits.put({"name": name, **fields})

    async def look(self, seconds: float = 0) -> None:
        """Some seconds later, with all that is settled by then in SQL."""
        self.clock.advance(seconds)
        await drain(self.governance)
        await self.governance.backfill.look()

    async def look_until_done(self) -> None:
        for seconds in (0, 20, 60):
            await self.look(seconds)

    async def used(self, name: str = "late") -> dict[str, int | str]:
        """By value."""
        report = await self.governance.usage.report()
        limits: Any = report["limits"]
        return {limit["value"]: limit["used"] for limit in limits if limit["name"] == name}

    async def check_books(self) -> None:
        findings = await audit(self.governance.journal)
        assert findings.ok, findings.shown()


@pytest.fixture
async def late(
    make_governance: Callable[..., Governance], gov_store: str, gov_clock: Clock
) -> AsyncIterator[Deployment]:
    governance = make_governance(clock=gov_clock)
    with sync_redis.Redis.from_url(gov_store, decode_responses=True) as raw:
        async with governance.store():
            deployment = Deployment(governance, raw)
            deployment.clock = gov_clock
            yield deployment


async def test_a_limit_created_in_mid_window_finds_what_was_used_before(late: Deployment) -> None:
    await late.spend(300)
    await late.spend(300)
    await late.spend(300, user="bob")
    await late.limit()
    await late.look()
    assert await late.used() == {"ann": "0.001400000", "bob": "0.000700000"}
    await late.spend(300)
    await late.look_until_done()
    assert await late.used() == {"ann": "0.002100000", "bob": "0.000700000"}
    await late.check_books()


async def test_calls_that_ran_when_the_limit_came_are_found_when_they_end(late: Deployment) -> None:
    async with AsyncExitStack() as stack:
        for output_tokens in (300, 100):
            call = late.call()
            await stack.enter_async_context(late.governance.reservations.hold(call, late.governance.limits))
            call.reading, call.status, call.usage = (
                Reading.WHOLE,
                200,
                Usage(100, output_tokens=output_tokens),
            )
        await late.limit()
        await late.look()
        await late.look(120)
        assert await late.used() == {}, "nobody knows yet what they will use"
    await late.look(240)
    assert await late.used() == {"ann": "0.001000000"}
    await late.check_books()


async def test_nothing_is_added_twice_however_often_one_looks(late: Deployment) -> None:
    await late.spend(300)
    await late.limit()
    for _ in range(3):
        await late.governance.backfill.look()
        late.raw.delete("gov:backfill")  # as if nobody had looked yet
        late.governance.backfill._done.clear()
        late.clock.advance(1)
        await late.look()
    assert await late.used() == {"ann": "0.000700000"}
    await late.check_books()


async def test_once_it_is_done_nobody_looks_any_more(
    late: Deployment, make_governance: Callable[..., Governance], monkeypatch: pytest.MonkeyPatch
) -> None:
    await late.limit()
    await late.look_until_done()

    async def asked(*_: object, **__: object) -> None:
        raise AssertionError("it looked")

    other = make_governance(clock=late.clock)
    async with other.store():
        for governance in (late.governance, other):
            monkeypatch.setattr(governance.backfill._missed_use, "missed", asked)
            await governance.backfill.look()
        await other.limits.put({"name": "new", "scope": "user", "meter": "requests", "rate": "9/hour"})
        await late.governance.limits.refresh()
        await late.spend(1)
        with pytest.raises(AssertionError, match="it looked"):
            await other.backfill.look()


async def test_of_two_workers_that_do_the_same_look_the_second_changes_nothing(
    late: Deployment, make_governance: Callable[..., Governance]
) -> None:
    await late.spend(300)
    await late.limit()
    other = make_governance(clock=late.clock)
    async with other.store():
        find = other.backfill._missed_use.missed

        async def find_and_hang(*asked: Any, **options: Any) -> Any:
            missed = await find(*asked, **options)
            late.raw.delete("gov:backfiller")  # its turn is over
            await late.governance.backfill.look()
            return missed

        other.backfill._missed_use.missed = find_and_hang
        await drain(other)
        await other.backfill.look()
    assert await late.used() == {"ann": "0.000700000"}
    await late.check_books()


async def test_editing_a_limit_never_resets_usage(late: Deployment) -> None:
    await late.limit()
    await late.spend(300)
    for change in ({"hard": 2}, {"soft": 0.1}, {"mode": "suggest"}, {"value": "ann"}, {"default": True}):
        await late.limit(**change)
        await late.look()
        assert await late.used() == {"ann": "0.000700000"}, change


async def test_a_limit_that_is_deleted_and_created_again_finds_all_its_usage(late: Deployment) -> None:
    await late.limit()
    await late.look_until_done()
    await late.spend(300)
    await late.governance.limits.delete("late")
    await late.look(2)
    await late.spend(300)
    await late.limit("again")
    await late.look(2)
    await late.spend(300)
    await late.look_until_done()
    assert await late.used("again") == {"ann": "0.002100000"}
    await late.check_books()


async def test_a_limit_that_goes_while_no_worker_runs_is_looked_at_again(
    late: Deployment, make_governance: Callable[..., Governance]
) -> None:
    month = {"name": "late", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 1}
    for limits in ([month], [], [month]):
        governance = make_governance(limits=limits, clock=late.clock)
        async with governance.store():
            deployment = Deployment(governance, late.raw)
            deployment.clock = late.clock
            await deployment.look_until_done()
            await deployment.spend(300)
            await deployment.look_until_done()
    async with governance.store():
        assert await deployment.used() == {"ann": "0.002100000"}


async def test_what_was_used_in_an_earlier_window_is_not_counted(late: Deployment) -> None:
    await late.spend(300)
    late.clock.advance(40 * 86_400)
    await late.spend(100)
    await late.limit()
    await late.limit("ever", window="lifetime")
    await late.look_until_done()
    assert await late.used() == {"ann": "0.000300000"}
    assert await late.used("ever") == {"ann": "0.001000000"}
    await late.check_books()


async def test_amounts_of_a_sliding_window_leave_it_when_they_would_have(late: Deployment) -> None:
    for _ in range(3):
        await late.spend(1)
        late.clock.advance(600)
    await late.governance.limits.put({"name": "late", "scope": "user", "meter": "requests", "rate": "9/hour"})
    await late.look()
    counter = late.raw.hgetall("gov:{acme}:c:user:requests:3600s:ann")
    assert (counter["u"], sorted(value for name, value in counter.items() if name[:2] == "u2")) == (
        "3",
        ["1", "1", "1"],
    )
    await late.check_books()
    late.clock.advance(3600 - 1800 + 70)
    await late.spend(1)
    assert late.raw.hget("gov:{acme}:c:user:requests:3600s:ann", "u") == "3", "the first has left, one came"
    await late.check_books()


LIMITS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"meter": "requests", "hard": 9}, {"ann": 2, "bob": 1}),
    ({"meter": "input_tokens", "hard": 9}, {"ann": 200, "bob": 100}),
    ({"meter": "output_tokens", "hard": 9}, {"ann": 400, "bob": 300}),
    ({"meter": "total_tokens", "hard": 9}, {"ann": 600, "bob": 400}),
    ({"window": "day", "value": "bob"}, {"bob": "0.000700000"}),
    ({"window": "day", "value": "nobody"}, {}),
    ({"window": "week", "default": True}, {"ann": "0.001000000", "bob": "0.000700000"}),
    ({"window": "lifetime", "workspace": "acme"}, {"ann": "0.001000000"}),
    ({"window": "30d", "anchor": "2026-01-01"}, {"ann": "0.001000000", "bob": "0.000700000"}),
    ({"timezone": "Asia/Tokyo"}, {"ann": "0.001000000", "bob": "0.000700000"}),
    ({"scope": "workspace"}, {"acme": "0.001000000", "zeta": "0.000700000"}),
    ({"scope": "tag:team"}, {"team of ann": "0.001000000", "team of bob": "0.000700000"}),
    ({"scope": "tag:colour", "workspace": "acme"}, {"anonymous": "0.001000000"}),
    ({"scope": ["user", "model"]}, {"ann|m": "0.001000000", "bob|m": "0.000700000"}),
    ({"scope": ["tag:team", "user"], "value": ["team of bob", "bob"]}, {"team of bob|bob": "0.000700000"}),
    ({"scope": "deployment"}, {"deployment": "0.001700000"}),
    ({"scope": ["user", "deployment"]}, {"ann|deployment": "0.001000000", "bob|deployment": "0.000700000"}),
    ({"scope": ["deployment", "user"], "value": "ann"}, {"deployment|ann": "0.001000000"}),
    ({"mode": "dry_run"}, {"ann": "0.001000000", "bob": "0.000700000"}),
    ({"meter": "concurrency", "window": None, "hard": 9}, {}),
]  # fmt: skip


async def test_every_kind_of_limit_is_backfilled(
    late: Deployment, make_governance: Callable[..., Governance]
) -> None:
    for output_tokens, user, workspace in ((300, "ann", "acme"), (100, "ann", "acme"), (300, "bob", "zeta")):
        await late.spend(output_tokens, user=user, workspace=workspace)
    month = {"scope": "user", "meter": "cost_usd", "window": "month", "hard": 1}
    limits = [{"name": f"limit-{number}", **month, **fields} for number, (fields, _) in enumerate(LIMITS)]
    governance = make_governance(limits=limits, clock=late.clock)
    async with governance.store():
        await drain(governance)
        late.clock.advance(6)  # it takes clocks for apart by 5 s
        await governance.backfill.look()
        found: dict[str, dict[str, Any]] = {f"limit-{number}": {} for number in range(len(LIMITS))}
        for state in await governance.usage.limit_states():
            found[str(state["name"])][str(state["value"])] = state["used"]
    for used, (fields, expected) in zip(found.values(), LIMITS, strict=True):
        assert used == expected, fields
    await late.check_books()


async def test_deployment_wide_limits_leave_out_what_their_own_slot_has_not_settled_yet(
    late: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await late.limit(scope="deployment")
    settle = late.governance.ledger.settle

    async def settle_own_part(workspace: str, *arguments: Any, **options: Any) -> Any:
        if workspace == DEPLOYMENT_WORKSPACE:
            raise StoreUnavailable("for a while")
        return await settle(workspace, *arguments, **options)

    monkeypatch.setattr(late.governance.ledger, "settle", settle_own_part)
    await late.spend(300)
    await late.look(6)
    assert await late.used() == {"deployment": "0.000000000"}
    monkeypatch.undo()
    await late.governance.upkeep.stop()  # sends it again
    await late.look(20)
    await late.look(60)
    assert await late.used() == {"deployment": "0.000700000"}
    await late.check_books()


async def test_what_a_dry_run_would_have_refused_is_not_backfilled(late: Deployment) -> None:
    await late.limit("tight", scope="user", meter="requests", hard=1, mode="dry_run")
    await late.spend(300)
    await late.spend(300)
    await late.limit(mode="dry_run")
    await late.look()
    assert await late.used() == {"ann": "0.000700000"}
    assert await late.used("tight") == {"ann": 1}
    await late.check_books()


async def test_a_call_from_inside_the_app_is_a_request_of_its_parents(late: Deployment) -> None:
    parent = late.call()
    async with late.governance.reservations.hold(parent, late.governance.limits):
        await late.spend(300, parent=parent)
        parent.reading, parent.status, parent.usage = Reading.WHOLE, 200, Usage()
    await late.limit(meter="requests", hard=9)
    await late.limit("cost")
    await late.look()
    assert await late.used() == {"ann": 1}
    assert await late.used("cost") == {"ann": "0.000700000"}


async def test_names_with_a_backslash_are_backfilled_in_pairs_too(late: Deployment) -> None:
    await late.spend(300, user="CORP\\ann")
    await late.limit(scope=["user", "model"])
    await late.limit("hers", scope=["user", "model"], value=["CORP\\ann", "m"], window="week")
    await late.look_until_done()
    assert await late.used() == {"CORP\\ann|m": "0.000700000"}
    assert await late.used("hers") == {"CORP\\ann|m": "0.000700000"}
    await late.check_books()


async def test_a_workspace_that_the_store_has_lost_keeps_no_other_waiting(late: Deployment) -> None:
    for workspace in ("acme", "zeta"):
        await late.spend(300, workspace=workspace)
    await late.limit()
    await drain(late.governance)
    epoch = late.raw.hget("gov:{acme}:state", "epoch")
    late.raw.hdel("gov:{acme}:state", "epoch", "candidate")
    await late.look_until_done()
    assert late.raw.keys("gov:{*}:c:user:cost_usd:month:ann") == ["gov:{zeta}:c:user:cost_usd:month:ann"]
    late.raw.hset("gov:{acme}:state", "epoch", epoch)
    await late.look(600)
    assert len(late.raw.keys("gov:{*}:c:user:cost_usd:month:ann")) == 2
