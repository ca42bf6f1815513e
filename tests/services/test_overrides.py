"""Overrides where the store, or SQL, is not there for a while; and what time ends, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from redis import Redis
from tests.services.test_audit import Books

from govmiddleware.app import Governance
from govmiddleware.core.call import Role
from govmiddleware.core.overrides import Override, OverrideState, Person
from govmiddleware.core.refusals import AlreadyDecided, InvalidRequest, SelfApproval, Unavailable
from govmiddleware.errors import HistoryUnavailable, StoreUnavailable
from govmiddleware.ledger.keys import OVERRIDES
from govmiddleware.services.overrides import OverrideRequest
from govmiddleware.testing.clock import Clock

BOB = Person("api_token:bob", Role.OPERATOR, "acme", "bob")
ALICE = Person("api_token:alice", Role.ADMIN, "acme", "alice")
OLGA = Person("api_token:olga", Role.OWNER, "acme", "olga")
LIMIT = {"name": "all", "scope": "workspace", "meter": "requests", "window": "lifetime", "hard": 0}
COUNTER = "gov:{acme}:c:override:requests:lifetime:"
ASKED = OverrideRequest(seconds=60, reason="why", amount=Decimal(3))


@pytest.fixture(autouse=True)
def always_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govmiddleware.services.overrides.CARE_SECONDS", 0.0012)


@pytest.fixture
async def governance(
    make_governance: Callable[..., Governance], gov_clock: Clock
) -> AsyncIterator[Governance]:
    async with make_governance(limits=[LIMIT], clock=gov_clock).store() as governance:
        yield governance


@pytest.fixture
async def without_store(
    make_governance: Callable[..., Governance], gov_clock: Clock, tmp_path: Path
) -> AsyncIterator[Governance]:
    """A worker of the same deployment that the store does not answer."""
    governance = make_governance(redis_url=f"unix://{tmp_path}/closed.sock", limits=[LIMIT], clock=gov_clock)
    yield governance
    await governance.storage.close()


@pytest.fixture
def raw(gov_store: str) -> Any:
    with Redis.from_url(gov_store) as redis:
        yield redis


async def approved(governance: Governance, by: Governance | None = None) -> Override:
    asked = await governance.overrides.request("all", ASKED, BOB)
    return await (by or governance).overrides.approve(asked.id, ALICE)


async def state(governance: Governance, override: Override) -> OverrideState:
    [found] = await governance.overrides.find(override.id)
    return found.state


async def look_after(governance: Governance) -> None:
    await asyncio.sleep(0.002)  # the turn of the last look
    await governance.overrides.look_after()


async def actions(governance: Governance) -> list[str]:
    return [entry.action.action async for entry in governance.audit_log.entries()]


async def test_what_was_approved_while_the_store_was_down_is_in_force_once_it_is_back(
    governance: Governance, without_store: Governance, raw: Any
) -> None:
    override = await approved(governance, by=without_store)
    assert raw.hkeys(OVERRIDES) == []
    await look_after(governance)
    assert raw.hkeys(OVERRIDES) == [override.id.encode()]


async def test_what_a_store_forgot_is_in_force_again(governance: Governance, raw: Any) -> None:
    override = await approved(governance)
    raw.delete(OVERRIDES)
    await look_after(governance)
    assert raw.hkeys(OVERRIDES) == [override.id.encode()]


async def test_what_was_revoked_while_the_store_was_down_is_used_up_once_it_is_back(
    governance: Governance, without_store: Governance, raw: Any
) -> None:
    override = await approved(governance)
    await without_store.overrides.revoke(override.id, ALICE)
    assert raw.hkeys(OVERRIDES) == [override.id.encode()]
    for _ in range(2):
        await look_after(governance)
        assert (raw.hkeys(OVERRIDES), raw.hget(COUNTER + override.id, "u0")) == ([], b"3")


async def test_what_nobody_approved_is_not_in_force(governance: Governance, raw: Any) -> None:
    raw.hset(OVERRIDES, "ovr_forged", b"{}")
    await look_after(governance)
    assert raw.hkeys(OVERRIDES) == []


async def test_time_ends_an_override_once_however_many_look(
    governance: Governance, make_governance: Callable[..., Governance], gov_clock: Clock, raw: Any
) -> None:
    override, never = await approved(governance), await governance.overrides.request("all", ASKED, BOB)
    gov_clock.advance(24 * 3600)
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(make_governance(limits=[LIMIT], clock=gov_clock).store())
            for _ in range(3)
        ]
        for _ in range(3):
            await asyncio.gather(*(look_after(worker) for worker in workers))
    assert [await state(governance, each) for each in (override, never)] == [OverrideState.EXPIRED] * 2
    assert (await actions(governance)).count("override.expired") == 2
    assert raw.hkeys(OVERRIDES) == []


async def test_without_sql_nothing_is_decided_and_what_is_in_force_stays(
    governance: Governance, make_governance: Callable[..., Governance], raw: Any, tmp_path: Path
) -> None:
    override = await approved(governance)
    (tmp_path / "file").touch()
    async with make_governance(
        limits=[LIMIT], journal_url=f"sqlite:///{tmp_path}/file/journal"
    ).store() as other:
        with pytest.raises(HistoryUnavailable):
            await other.overrides.request("all", ASKED, BOB)
        await look_after(other)
    assert raw.hkeys(OVERRIDES) == [override.id.encode()]


async def test_an_audit_log_entry_and_its_change_are_one(
    governance: Governance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await governance.overrides.request("all", ASKED, BOB)

    async def fails(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(governance.audit_log, "append_in", fails)
        with pytest.raises(HistoryUnavailable):
            await governance.overrides.approve(asked.id, ALICE)
    assert await state(governance, asked) is OverrideState.REQUESTED
    assert await actions(governance) == ["override.requested"]
    assert (await governance.overrides.approve(asked.id, ALICE)).state is OverrideState.APPROVED


@pytest.mark.parametrize(
    ("scope", "value", "by"),
    [("user", "olga", ALICE), ("user+model", "olga|m", ALICE), ("model+api_token", "m|olga", ALICE)],
)
async def test_nobody_approves_a_raise_of_their_own_limit_whoever_asked_for_it(
    governance: Governance, scope: str, value: str, by: Person
) -> None:
    limit = {"name": "own", "scope": scope, "meter": "requests", "window": "lifetime", "hard": 0}
    await governance.limits.put(limit)
    asked = await governance.overrides.request("own", replace(ASKED, value=value), BOB)
    with pytest.raises(SelfApproval):
        await governance.overrides.approve(asked.id, OLGA)
    assert (await governance.overrides.approve(asked.id, by)).state is OverrideState.APPROVED


async def test_what_is_spent_cannot_be_revoked_though_nobody_has_noticed_yet(
    governance: Governance, raw: Any
) -> None:
    override = await approved(governance)
    raw.hset(COUNTER + override.id, mapping={"o": 0, "u0": 3})
    with pytest.raises(AlreadyDecided, match="spent"):
        await governance.overrides.revoke(override.id, ALICE)
    [shown] = await governance.overrides.shown(await governance.overrides.find(override.id))
    assert (shown["state"], shown["used"], shown["remaining"]) == ("spent", 3, 0)


@pytest.mark.parametrize("amount", ["1E-2000000", "1.0000000000000000000000000000000000001"])
async def test_an_amount_is_what_was_written(governance: Governance, amount: str) -> None:
    with pytest.raises(InvalidRequest, match="amount"):
        await governance.overrides.request("all", replace(ASKED, amount=Decimal(amount)), BOB)


async def test_one_workspace_that_the_store_has_lost_does_not_keep_others_overrides_in_force(
    governance: Governance, without_store: Governance, raw: Any
) -> None:
    overrides = []
    for workspace in ("acme", "zeta", "yankee", "xray"):
        bob, alice = (replace(each, workspace=workspace) for each in (BOB, ALICE))
        asked = await governance.overrides.request("all", ASKED, bob)
        overrides.append(await governance.overrides.approve(asked.id, alice))
        await without_store.overrides.revoke(asked.id, alice)
        await governance.history.begin_epoch(workspace, "epo_1")
        raw.delete(f"gov:{{{workspace}}}:state")
        if workspace != "acme":
            raw.hset(f"gov:{{{workspace}}}:state", "epoch", "epo_1")
    await look_after(governance)
    assert raw.hkeys(OVERRIDES) == [overrides[0].id.encode()]


async def test_a_call_whose_holds_the_store_does_not_take_back_before_it_waits_is_refused(
    make_governance: Callable[..., Governance], gov_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = {"name": "wide", "scope": "deployment", "meter": "requests", "window": "lifetime", "hard": 9}
    waiting = make_governance(limits=[wide, LIMIT], clock=gov_clock, override_wait_seconds=1)
    async with waiting.store() as governance:

        async def settle(*_: object, **__: object) -> None:
            raise StoreUnavailable("for a while")

        monkeypatch.setattr(governance.ledger, "settle", settle)
        with pytest.raises(Unavailable):
            async with governance.reservations.hold(Books(governance, None).call(), governance.limits):
                raise AssertionError("it passes")
        monkeypatch.undo()
        await governance.upkeep.stop()  # sends it again
        assert not (await governance.journal.snapshot("*", [])).reservations


@pytest.mark.parametrize("workspace", ["*", "acme}", "a\nb", ""])
async def test_the_admin_asks_for_a_workspace_that_can_be_one(governance: Governance, workspace: str) -> None:
    with pytest.raises(InvalidRequest, match="workspace"):
        await governance.overrides.request(
            "all", replace(ASKED, workspace=workspace), Person("admin", Role.OWNER)
        )
