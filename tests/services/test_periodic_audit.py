"""Periodic audits: one worker of all checks the books, and what is wrong is counted and named."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import redis as sync_redis
from tests.services.worker import answer, new_call, until

from govmiddleware.app import Governance
from govmiddleware.errors import HistoryUnavailable
from govmiddleware.ledger.keys import AUDITOR, WorkspaceKeys
from govmiddleware.services import periodic_audit
from govmiddleware.services.audit import Findings
from govmiddleware.services.periodic_audit import PeriodicAudit

MONTH = {"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 1}
COUNTER = WorkspaceKeys("acme").counter("user:cost_usd:month:anonymous")


@pytest.fixture(autouse=True)
def looks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_audit, "_AGAIN_SECONDS", 0.01)


@pytest.fixture
def make(make_governance: Callable[..., Governance]) -> Callable[..., Governance]:
    """Governances that do not audit by themselves, unless told to."""
    return lambda **settings: make_governance(**{"audit_seconds": 0, "limits": [MONTH], **settings})


async def spend(governance: Governance) -> None:
    call = new_call()
    async with governance.reservations.hold(call, governance.limits):
        answer(call)


def audits_of(governance: Governance, seconds: float = 3600) -> PeriodicAudit:
    return PeriodicAudit(governance.ledger, governance.audit, governance.metrics, seconds=seconds)


def counted(*governances: Governance) -> dict[str, float | None]:
    """How many audits all of them have made, by result."""
    name = "govmiddleware_audits_total"
    return {
        result: sum(
            each.metrics.registry.get_sample_value(name, {"result": result}) or 0 for each in governances
        )
        for result in ("clean", "differences", "unable")
    }


async def test_of_all_workers_one_audits_in_an_interval(
    make: Callable[..., Governance], gov_store: str
) -> None:
    async with make() as one, make() as other:
        await spend(one)
        for governance in (one, other, one, other):
            await audits_of(governance).look()
        assert counted(one, other) == {"clean": 1, "differences": 0, "unable": 0}
        with sync_redis.Redis.from_url(gov_store) as store:
            assert 3590 < store.ttl(AUDITOR) <= 3600
            store.delete(AUDITOR)  # as its time does
        await audits_of(other).look()
        assert counted(other)["clean"] == 1


async def test_what_is_wrong_is_counted_and_named(
    make: Callable[..., Governance], gov_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with make() as governance:
        await spend(governance)
        with sync_redis.Redis.from_url(gov_store, decode_responses=True) as store:
            [used] = [field for field in store.hkeys(COUNTER) if field[0] == "u" and field != "u"]
            store.hincrby(COUNTER, used, 7)
            for number in range(25):
                store.hset(f"gov:{{acme}}:c:stray{number}", "u0", 1)
        await audits_of(governance).look()
        assert counted(governance) == {"clean": 0, "differences": 1, "unable": 0}
    [said] = [record for record in caplog.records if record.name == "govmiddleware.audit"]
    assert said.levelno == logging.ERROR
    told = said.getMessage()
    assert "user:cost_usd of 'anonymous' in workspace acme, month:" in told
    assert "the counter has 150007, the journal 150000" in told
    assert "stray0 is in the store, and no book explains it" in told
    assert told.endswith("and 6 more"), "a broken store does not fill the log"


async def test_books_that_cannot_be_read_are_counted_as_such(
    make: Callable[..., Governance], caplog: pytest.LogCaptureFixture
) -> None:
    async def audit() -> Findings:
        raise HistoryUnavailable("locked")

    async with make() as governance:
        audits = PeriodicAudit(governance.ledger, audit, governance.metrics, seconds=60)
        with pytest.raises(HistoryUnavailable):  # which the upkeep takes
            await audits.look()
        assert counted(governance) == {"clean": 0, "differences": 0, "unable": 1}
    assert "the books could not be audited: locked" in caplog.text


async def test_what_balances_at_the_second_look_is_no_difference(make: Callable[..., Governance]) -> None:
    """As after a failover."""
    looks = iter([Findings(orphans=["a key"]), Findings()])

    async def audit() -> Findings:
        return next(looks)

    async with make() as governance:
        await PeriodicAudit(governance.ledger, audit, governance.metrics, seconds=60).look()
        assert counted(governance) == {"clean": 1, "differences": 0, "unable": 0}


async def test_an_open_governance_audits_by_itself(make: Callable[..., Governance]) -> None:
    async with make(audit_seconds=0.1) as governance:
        await until(lambda: (counted(governance)["clean"] or 0) >= 2)
