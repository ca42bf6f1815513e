"""Overrides in SQL: each change once, with its entry in the audit log, whoever else is at it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

import pytest
from msgspec.structs import replace

from govmiddleware.core.call import Role
from govmiddleware.core.limits import Meter
from govmiddleware.core.overrides import Change, Override, OverrideState, Person
from govmiddleware.core.refusals import Refusal
from govmiddleware.journal.audit_log import SqlAuditLog
from govmiddleware.journal.database import Database
from govmiddleware.journal.overrides import SqlOverrides
from govmiddleware.services import override_changes as changes
from tests.journal.test_audit_log import KEY, Heads

ALICE = Person("api_token:alice", Role.ADMIN, "acme", "alice")
OLGA = Person("api_token:olga", Role.OWNER, "acme")
ADMIN = Person("admin", Role.OWNER)
ASKED = Override(
    id="ovr_1",
    workspace="acme",
    limit="month",
    scope="user",
    meter=Meter.COST_USD,
    value="bob",
    reason="the release",
    requester="api_token:bob",
    requester_workspace="acme",
    requester_user="bob",
    for_user=None,
    requested_at_ms=1000,
    seconds=60,
    decide_by_ms=90_000,
    approvals_required=1,
    amount=2**52,
)


@pytest.fixture
def log(database: Database) -> SqlAuditLog:
    return SqlAuditLog(database, lambda: KEY, Heads())


@pytest.fixture
def overrides(database: Database, log: SqlAuditLog) -> SqlOverrides:
    return SqlOverrides(database, log)


async def add(overrides: SqlOverrides, override: Override = ASKED) -> bool:
    return await overrides.add(override, changes.requested(override))


async def at_once(overrides: SqlOverrides, *all_changes: Change) -> list[str]:
    """What each came to: the new state, or the code of the refusal."""

    async def change(one: Change) -> str:
        try:
            changed = await overrides.change(ASKED.id, one)
        except Refusal as refusal:
            return refusal.code
        assert changed is not None
        return changed.state.value

    return sorted(await asyncio.gather(*map(change, all_changes)))


async def actions(log: SqlAuditLog) -> Counter[str]:
    return Counter([entry.action.action.removeprefix("override.") async for entry in log.entries()])


async def test_an_override_is_read_as_it_was_written(overrides: SqlOverrides) -> None:
    by_admin = replace(
        ASKED, id="ovr_2", requester="admin", requester_workspace=None, amount=None, factor=Decimal("1.5")
    )
    assert [await add(overrides), await add(overrides, by_admin)] == [True, True]
    assert await overrides.find("ovr_1") == [ASKED]
    assert await overrides.find("ovr_2", "ovr_3") == [by_admin]
    assert await overrides.find() == []


async def test_one_requester_has_one_undecided_for_a_limit_and_value(
    overrides: SqlOverrides, log: SqlAuditLog
) -> None:
    same = [replace(ASKED, id=f"ovr_{number}") for number in range(1, 6)]
    assert sorted(await asyncio.gather(*(add(overrides, each) for each in same))) == [False] * 4 + [True]
    others = [
        {"value": "ann"},
        {"limit": "day"},
        {"requester": "api_token:x"},
        {"requester_workspace": "umbrella"},
    ]
    for number, other in enumerate(others, 10):
        assert await add(overrides, replace(ASKED, id=f"ovr_{number}", **other)), other
    admins = replace(ASKED, id="ovr_20", requester="admin", requester_workspace=None)
    assert await add(overrides, admins)
    assert not await add(overrides, replace(admins, id="ovr_21"))
    undecided = await overrides.undecided(admins)
    assert undecided is not None
    assert undecided.id == "ovr_20"
    await overrides.change("ovr_20", changes.denial(ADMIN, 2000))
    assert await overrides.undecided(admins) is None
    assert await add(overrides, replace(admins, id="ovr_21"))
    assert (await actions(log))["requested"] == 7


async def test_of_decisions_at_once_one_counts(overrides: SqlOverrides, log: SqlAuditLog) -> None:
    await add(overrides)
    yes, no = [changes.approval(each, 2000) for each in (ALICE, OLGA)], changes.denial(ADMIN, 2000)
    outcomes = await at_once(overrides, *yes, no, changes.denial(OLGA, 2000))
    assert outcomes.count("already_decided") == 3
    assert sum((await actions(log)).values()) == 2, "the request and one decision"


async def test_two_yes_at_once_are_two_approvals(overrides: SqlOverrides, log: SqlAuditLog) -> None:
    await add(overrides, replace(ASKED, approvals_required=2))
    yes = [changes.approval(each, 2000) for each in (ALICE, OLGA)]
    outcomes = await at_once(overrides, *yes, *yes)
    assert [outcomes.count(each) for each in ("requested", "approved")] == [1, 1], outcomes
    [found] = await overrides.find(ASKED.id)
    assert (found.state, found.until_ms, len(found.approvals)) == (OverrideState.APPROVED, 62_000, 2)
    assert await actions(log) == {"requested": 1, "approval": 1, "approved": 1}


async def test_of_the_ends_of_one_in_force_one_counts(overrides: SqlOverrides, log: SqlAuditLog) -> None:
    await add(overrides)
    await overrides.change(ASKED.id, changes.approval(ALICE, 2000))
    ends = [
        changes.revocation(ALICE, 3000),
        changes.expiry(62_000),
        changes.exhaustion(),
        changes.expiry(62_000),
    ]
    assert (await at_once(overrides, *ends)).count("already_decided") == 3
    assert await overrides.approved() == []
    assert sum((await actions(log)).values()) == 3


async def test_what_is_overdue_is_found(overrides: SqlOverrides) -> None:
    await add(overrides)
    await add(overrides, replace(ASKED, id="ovr_2", value="ann"))
    await overrides.change("ovr_2", changes.approval(ALICE, 2000))
    assert [list(await overrides.overdue(now)) for now in (61_999, 62_000)] == [[], ["ovr_2"]]
    assert sorted(await overrides.overdue(90_000)) == ["ovr_1", "ovr_2"]


async def test_a_list_has_what_somebody_may_see(overrides: SqlOverrides) -> None:
    everywhere = replace(ASKED, id="ovr_2", workspace="*", requested_at_ms=2000)
    await add(overrides)
    await add(overrides, everywhere)
    bob = Person("api_token:bob", Role.OPERATOR, "acme", "bob")

    async def shown(person: Person) -> Sequence[str]:
        return [each.id for each in await overrides.list(shown_to=person)]

    assert [await shown(each) for each in (bob, ALICE, ADMIN)] == [
        ["ovr_2", "ovr_1"],
        ["ovr_1"],
        ["ovr_2", "ovr_1"],
    ]
    assert await shown(replace(bob, workspace="umbrella")) == [], (
        "another workspace has an API token of this name too"
    )
    assert [each.id for each in await overrides.list(state=OverrideState.REQUESTED, limit="month")] == [
        "ovr_2",
        "ovr_1",
    ]
    assert await overrides.list(limit="day") == []


async def test_what_no_override_can_be_called_is_not_found(overrides: SqlOverrides) -> None:
    assert await overrides.find("a\0b") == []
    assert await overrides.change("a\0b", changes.denial(ALICE, 0)) is None
    assert await overrides.list(limit="a\0b") == []
