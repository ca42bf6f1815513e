"""What the store has lost with its reservation is charged again, once; a store that lost everything admits nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from tests.services.forgetful import ForgetfulStore
from tests.services.worker import Worker, answer, until

from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.refusals import Unavailable
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import Lifetime, Now, SlidingWindow
from govmiddleware.errors import CannotRestore, StoreLost, StoreUnavailable
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from govmiddleware.ledger.adjustments import RedisAdjustments
from govmiddleware.ledger.epochs import Epochs
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.ledger.restoring import RedisRestoringTurns
from govmiddleware.services.audit import audit
from govmiddleware.services.lost_settlements import LostSettlements
from govmiddleware.services.rebuild import Rebuilding
from govmiddleware.services.reservations import Reservations
from govmiddleware.services.settlement_watch import SettlementWatch

LIMITS = (
    Limit("ever", Scope.WORKSPACE, Meter.TOTAL_TOKENS, Lifetime(), 10**9),
    Limit("minute", Scope.WORKSPACE, Meter.REQUESTS, SlidingWindow(60), 10**6),
    Limit("slots", Scope.WORKSPACE, Meter.CONCURRENCY, Now(), 1000),
)
TOKENS = 150


@dataclass
class Deployment:
    """A worker whose journal is drained into SQL when the test says so."""

    worker: Worker
    history: SqlHistory
    epochs: Epochs
    rebuilding: Rebuilding

    async def call(self, *, ends: bool = True) -> None:
        call = self.worker.call()
        async with self.worker.reservations.hold(call, LIMITS):
            answer(call)

    async def drain(self) -> None:
        await self.history.append("acme", await self.worker.records())

    async def check(self) -> None:
        """As the upkeep does, until the store is there again."""
        await until(lambda: not self.worker.upkeep._tasks)
        async with asyncio.timeout(10):
            while True:
                try:
                    return await self.worker.watch.check()
                except StoreUnavailable as error:
                    if isinstance(error, StoreLost):
                        raise
                    await asyncio.sleep(0.01)

    async def charged(self, calls: int) -> bool:
        """Whether the books balance, with so many calls in counters and SQL."""
        await self.drain()
        outcomes = [entry async for entry in self.history.entries("acme")]
        findings = await audit(self.worker.journal, self.history)
        assert findings.ok, findings.shown()
        return await self.worker.stands() == (TOKENS * calls, 0) and len(outcomes) == calls


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ForgetfulStore]:
    store = ForgetfulStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
async def deploy(
    store: ForgetfulStore, make_worker: Callable[[str], Worker], tmp_path: Path
) -> AsyncIterator[Callable[[], Deployment]]:
    database = Database(f"sqlite:///{tmp_path / 'journal.sqlite'}")

    def make() -> Deployment:
        worker, history = make_worker(store.url), SqlHistory(database)
        epochs = Epochs(worker.redis, history.begin_epoch, lambda: worker.watch.doubt())
        worker.ledger = RedisLedger(worker.redis, epochs=epochs, clock=worker.clock)
        adjustments = RedisAdjustments(worker.redis, epochs=epochs, clock=worker.clock)
        rebuilding = Rebuilding(
            worker.ledger, worker.journal, history, adjustments, RedisRestoringTurns(worker.redis)
        )
        lost = LostSettlements(history, adjustments, rebuilding)
        worker.watch = SettlementWatch(worker.ledger, worker.journal, worker.metrics, lost)
        worker.reservations = Reservations(
            worker.ledger, worker.upkeep, worker.watch, worker.metrics, lease_seconds=60
        )
        return Deployment(worker, history, epochs, rebuilding)

    yield make
    await database.close()


@pytest.fixture
async def deployment(deploy: Callable[[], Deployment]) -> Deployment:
    made = deploy()
    await made.worker.watch.check()
    return made


@pytest.mark.parametrize("drained", [0, 3, 5])
async def test_what_was_lost_with_its_reservation_is_charged_once(
    deployment: Deployment, store: ForgetfulStore, drained: int
) -> None:
    await deployment.call()
    store.remember()
    for number in range(5):
        if number == drained:
            await deployment.drain()
        await deployment.call()
    if drained == 5:
        await deployment.drain()
    store.crash(forget=True)
    await deployment.check()
    assert await deployment.charged(6)
    await deployment.check()
    assert await deployment.charged(6)
    assert deployment.worker.metric("lost_settlements_total") == 0


async def test_what_sql_has_of_a_worker_that_is_gone_is_restored_by_whichever_comes_first(
    deploy: Callable[[], Deployment], store: ForgetfulStore
) -> None:
    gone, one, other = deploy(), deploy(), deploy()
    await gone.call()
    for each in (one, other):
        await each.check()
    store.remember()
    await gone.call()
    await gone.drain()
    store.crash(forget=True)
    await asyncio.gather(one.check(), other.check())
    assert await one.charged(2)


async def test_a_settlement_that_sql_has_and_whose_reservation_came_back_counts_once(
    deployment: Deployment, store: ForgetfulStore
) -> None:
    await deployment.call()
    call = deployment.worker.call()
    async with deployment.worker.reservations.hold(call, LIMITS):
        store.remember()
        answer(call)
    await deployment.drain()
    store.crash(forget=True)
    await deployment.check()
    assert await deployment.charged(2)


async def test_a_reservation_that_came_back_though_sql_has_its_outcome_is_let_go(
    deploy: Callable[[], Deployment], store: ForgetfulStore
) -> None:
    gone, other = deploy(), deploy()
    await other.check()
    call = gone.worker.call()
    async with gone.worker.reservations.hold(call, LIMITS):
        store.remember()
        answer(call)
    await gone.drain()
    store.crash(forget=True)
    await other.check()
    assert await other.charged(1)


async def test_a_store_that_lost_everything_admits_nobody_until_it_is_rebuilt(
    deployment: Deployment, store: ForgetfulStore
) -> None:
    worker = deployment.worker
    for _ in range(3):
        await deployment.call()
    await deployment.drain()
    await deployment.call()  # SQL does not have it
    with Redis.from_url(store.url) as raw:
        raw.flushall()
    for _ in range(2):
        with pytest.raises(Unavailable, match="audit --rebuild") as refused:
            await deployment.call()
        assert refused.value.code == "store_lost"
    assert len(await deployment.epochs.lost()) == 1
    with pytest.raises(StoreLost):
        await deployment.check()
    findings = await audit(worker.journal, deployment.history)
    assert (findings.ok, findings.lost) == (False, ["acme"])
    await deployment.rebuilding.rebuild()
    assert await deployment.epochs.lost() == []
    await deployment.check()
    assert await deployment.charged(4)
    await deployment.call()
    assert await deployment.charged(5)


async def test_without_an_answer_of_sql_a_workspace_without_an_epoch_is_refused(
    deploy: Callable[[], Deployment], tmp_path: Path
) -> None:
    deployment = deploy()
    broken = SqlHistory(Database(f"sqlite:///{tmp_path}"))  # a directory
    deployment.epochs._begin_epoch = broken.begin_epoch
    with pytest.raises(Unavailable, match="does not answer"):
        await deployment.call()
    deployment.epochs._begin_epoch = deployment.history.begin_epoch
    deployment.epochs._refused.clear()
    await deployment.call()
    deployment.epochs._begin_epoch = broken.begin_epoch
    await deployment.call()  # it has its epoch: SQL is not asked


async def test_two_do_not_restore_at_once(deployment: Deployment) -> None:
    await deployment.call()
    await deployment.drain()
    turns = RedisRestoringTurns(deployment.worker.redis)
    turn = await turns.begin("acme", "")
    assert turn is not None
    with pytest.raises(CannotRestore, match="another restoration"):
        await deployment.rebuilding.rebuild()
    assert await turns.end("acme", turn, None)
    assert not await turns.end("acme", turn, None)
    await deployment.rebuilding.rebuild()


async def test_a_store_of_another_journal_is_not_rebuilt_from_this_one(
    deployment: Deployment, tmp_path: Path
) -> None:
    await deployment.call()
    other = Database(f"sqlite:///{tmp_path / 'other.sqlite'}")
    deployment.rebuilding._history = SqlHistory(other)
    with pytest.raises(CannotRestore, match="not in this journal"):
        await deployment.rebuilding.rebuild()
    await other.close()
