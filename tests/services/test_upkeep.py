"""What runs beside the requests: leases, sweeps, and writes that the store did not take at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from pathlib import Path

import pytest
import redis as sync_redis
from msgspec.structs import replace
from tests.services.worker import KEYS, LEASE, LIMITS, Worker, answer, until

from govmiddleware.core.call import Call, Progress, Reading, Reservation
from govmiddleware.core.demand import Demand
from govmiddleware.core.refusals import LimitRefusal, Unavailable
from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.services import records
from govmiddleware.services.audit import audit
from govmiddleware.services.reservations import Reservations
from govmiddleware.services.upkeep import Upkeep

pytestmark = pytest.mark.impatient

Outage = Callable[[], AbstractContextManager[None]]


@pytest.fixture
async def worker(gov_store: str, make_worker: Callable[[str], Worker]) -> Worker:
    return make_worker(gov_store)


@pytest.fixture
async def worker_of_own(own_store: str, make_worker: Callable[[str], Worker]) -> Worker:
    return make_worker(own_store)


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[str]:
    """A server that may be stopped: the tests share the other."""
    with EmbeddedStore(tmp_path) as url:
        yield url


@pytest.fixture
def outage(own_store: str) -> Outage:
    """The store hangs while the block runs; what was sent to it meanwhile it reads afterwards."""
    with sync_redis.Redis.from_url(own_store) as redis:
        process: int = redis.info("server")["process_id"]

    @contextmanager
    def hang() -> Iterator[None]:
        os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process, signal.SIGCONT)

    return hang


# Writes that the store did not take --------------------------------------------------------------


async def test_a_settlement_that_the_store_did_not_answer_is_sent_again_and_counts_once(
    worker_of_own: Worker, outage: Outage
) -> None:
    worker, call = worker_of_own, worker_of_own.call()
    async with AsyncExitStack() as request:
        await request.enter_async_context(worker.reservations.hold(call, LIMITS))
        answer(call)
        with outage():
            await request.aclose()
            await until(lambda: worker.metric("unsent_writes") == 1)
    await until(lambda: not worker.upkeep._tasks)
    assert worker.metric("unsent_writes") == 0
    assert await worker.stands() == (150, 0)
    assert len(await worker.records()) == 1
    assert (await audit(worker.journal)).ok


async def test_an_acquire_without_an_answer_is_refused_and_holds_nothing_in_the_end(
    worker_of_own: Worker, outage: Outage
) -> None:
    worker, earlier, call = worker_of_own, worker_of_own.call(), worker_of_own.call()
    async with worker.reservations.hold(earlier, LIMITS):
        answer(earlier)
    with outage(), pytest.raises(Unavailable) as refused:
        async with worker.reservations.hold(call, LIMITS):
            pytest.fail("it was admitted")
    assert refused.value.code == "store_unavailable"
    await until(lambda: not worker.upkeep._tasks)
    assert await worker.stands() == (150, 0)
    assert await worker.journal.open_reservations("acme") == []
    assert len(await worker.records()) == 1
    assert (await audit(worker.journal)).ok


async def test_a_caller_that_is_cancelled_while_it_acquires_holds_nothing_in_the_end(worker: Worker) -> None:
    async def enter(call: Call) -> None:
        async with worker.reservations.hold(call, LIMITS):
            pass

    for turns in range(12):
        task = asyncio.create_task(enter(worker.call()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not worker.upkeep._tasks)
    assert await worker.journal.open_reservations("acme") == []
    assert (await audit(worker.journal)).ok
    assert not await worker.redis.hexists(KEYS.counter("workspace:concurrency:now:acme"), "r0")


async def test_an_extension_without_an_answer_is_refused_and_released(
    worker_of_own: Worker, outage: Outage
) -> None:
    worker, call = worker_of_own, worker_of_own.call()
    async with worker.reservations.hold(call, LIMITS[1:]):
        with outage(), pytest.raises(Unavailable) as refused:
            async with worker.reservations.hold(call, LIMITS):
                pytest.fail("it was admitted")
        call.refusal = refused.value  # as `refuse` does
    await until(lambda: not worker.upkeep._tasks)
    assert await worker.journal.open_reservations("acme") == []
    assert await worker.records() == []
    assert (await audit(worker.journal)).ok


async def test_an_unsent_settlement_is_given_up_at_last_for_a_sweep_to_do(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.upkeep._lease_seconds = 0.01

    async def hopeless() -> None:
        raise StoreUnavailable("down")

    worker.upkeep.resend(hopeless)
    await until(lambda: not worker.upkeep._tasks)
    assert "given up" in caplog.text
    assert worker.metric("unsent_writes") == 0


# Leases ------------------------------------------------------------------------------------------


async def test_a_long_call_is_renewed_and_never_swept(
    worker: Worker, gov_store: str, make_worker: Callable[[str], Worker]
) -> None:
    worker.upkeep.start()
    other = make_worker(gov_store)
    other.upkeep.start()  # which would sweep it
    call = worker.call()
    with sync_redis.Redis.from_url(gov_store) as redis:
        async with worker.reservations.hold(call, LIMITS):
            for _ in range(4):  # three leases long
                worker.clock.advance(0.75 * LEASE)
                await until(
                    lambda: redis.zscore(KEYS.open, call.request_id) == worker.clock.now_ms + LEASE * 1000
                )
            answer(call)
    assert worker.metric("open_reservations") == 0
    assert await worker.stands() == (150, 0)
    (record,) = await worker.records()
    assert records.decode(record.record).settlement == "exact"


async def test_what_another_worker_left_behind_is_swept_as_reserved(
    gov_store: str, make_worker: Callable[[str], Worker], caplog: pytest.LogCaptureFixture
) -> None:
    lost, other = make_worker(gov_store), make_worker(gov_store)
    call = lost.call()
    await lost.reservations.open(call, LIMITS, in_slices=False)  # and never heard of again
    other.upkeep.start()
    await asyncio.sleep(0)
    assert await other.records() == []
    other.clock.advance(LEASE)
    with caplog.at_level(logging.WARNING):
        await until(lambda: other.metric("swept_reservations_total") == 1)
    assert call.request_id in caplog.text
    (entry,) = await other.records()
    record = records.decode(entry.record)
    assert (record.settlement, record.outcome, record.cost_usd) == ("expired", "expired", "0.000300000")
    assert (record.request_id, record.reservation_id) == (call.request_id, call.request_id)
    assert await other.stands() == (300, 0)
    assert (await audit(other.journal)).ok


async def test_an_admission_sweeps_what_it_saw_expired(
    gov_store: str, make_worker: Callable[[str], Worker]
) -> None:
    lost, other = make_worker(gov_store), make_worker(gov_store)
    await lost.reservations.open(lost.call(), LIMITS, in_slices=False)
    other.clock.advance(LEASE)
    async with other.reservations.hold(other.call(), LIMITS):
        pass
    await until(lambda: not other.upkeep._tasks)  # its loops were never started
    assert other.metric("swept_reservations_total") == 1


async def test_a_call_whose_reservation_was_swept_is_corrected_when_it_ends(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    call = worker.call()
    async with worker.reservations.hold(call, LIMITS):
        worker.clock.advance(LEASE)
        assert await worker.ledger.sweep("acme", call.request_id)
        worker.upkeep._open[call.request_id].renewed = 0
        await worker.upkeep._renew_leases()
        assert "before its call ended" in caplog.text
        assert worker.metric("open_reservations") == 0
        answer(call)
    assert await worker.stands() == (150, 0), "it is corrected"
    swept, correction = [records.decode(entry.record) for entry in await worker.records()]
    assert (swept.kind, swept.settlement, swept.cost_usd) == ("outcome", "expired", "0.000300000")
    assert (correction.kind, correction.settlement, correction.cost_usd) == (
        "correction",
        "exact",
        "-0.000150000",
    )
    assert (await audit(worker.journal)).ok


async def test_the_loops_outlive_an_outage(
    worker_of_own: Worker,
    outage: Outage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = worker_of_own
    await worker.reservations.open(worker.call(), LIMITS, in_slices=False)
    worker.upkeep._open.clear()
    worker.upkeep.start()
    with outage():
        await until(lambda: "the store does not answer" in caplog.text)
        worker.clock.advance(LEASE)
    await until(lambda: worker.metric("swept_reservations_total") == 1)


async def test_a_stream_gets_no_slice_of_a_store_that_hangs_and_settles_what_it_used(
    worker_of_own: Worker, outage: Outage
) -> None:
    """The store carries the growth out when it is back, with nobody waiting for it."""
    worker, call = worker_of_own, worker_of_own.call()
    call.demand = Demand(100, output=8000, fixed_cost=100_000, output_femto=10**9, grows=True)
    roomy = (replace(LIMITS[0], hard=10**6),)
    async with worker.reservations.hold(call, roomy, in_slices=True):
        assert call.grow is not None
        with outage():
            assert not await call.grow(2000)
        answer(call)
    await until(lambda: not worker.upkeep._tasks)
    assert await worker.stands() == (150, 0)
    assert (await audit(worker.journal)).ok


# The sweep's turn --------------------------------------------------------------------------------

SWEEP = 0.2
"""Seconds."""


async def test_of_many_workers_one_walks_over_the_workspaces_in_each_interval(
    gov_store: str, make_worker: Callable[..., Worker]
) -> None:
    walks_before = await _walks(gov_store)
    workers = [make_worker(gov_store, SWEEP) for _ in range(6)]
    started = time.monotonic()
    for worker in workers:
        worker.upkeep.start()
        await asyncio.sleep(SWEEP / 7)  # so that their rounds are spread over the interval
    await asyncio.sleep(10 * SWEEP)
    intervals = (time.monotonic() - started) / SWEEP
    walks = await _walks(gov_store) - walks_before
    assert intervals / 2 < walks <= intervals / 0.9 + 1


async def _walks(url: str) -> int:
    """How often the directory was read."""
    redis = connect(url)
    stats = await redis.info("commandstats")
    await redis.aclose()
    return int(stats.get("cmdstat_sscan", {"calls": 0})["calls"])


async def test_a_worker_that_dies_in_its_walk_costs_the_others_one_interval(
    gov_store: str, make_worker: Callable[..., Worker]
) -> None:
    lost, *others = (make_worker(gov_store, SWEEP) for _ in range(4))
    await lost.reservations.open(lost.call(), LIMITS, in_slices=False)
    lost.clock.advance(LEASE)
    for other in others:
        other.upkeep.start()
    assert await lost.ledger.take_sweep_turn(lost.upkeep._turn_ms)  # and never heard of again
    died = time.monotonic()
    await until(lambda: sum(other.metric("swept_reservations_total") or 0 for other in others) == 1)
    assert time.monotonic() - died < 2 * SWEEP + 1  # the last second is for a busy machine
    assert await others[0].stands() == (300, 0)


# Ends --------------------------------------------------------------------------------------------


async def test_finish_survives_the_cancellation_of_its_caller(worker: Worker) -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    caller = asyncio.create_task(worker.upkeep.finish(work()))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
    assert caller.cancelled()
    assert not ended.is_set()
    may_end.set()
    await worker.upkeep.stop()
    assert ended.is_set(), "stop waits for it"


async def test_a_cancelled_client_settles(worker: Worker) -> None:
    entered = asyncio.Event()
    call = worker.call()
    call.stream = True

    async def serve() -> None:
        async with worker.reservations.hold(call, LIMITS):
            call.progress, call.status = Progress.DISPATCHED, 200
            call.reading, call.delivered_output_tokens = Reading.CUT, 7
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # once more, while it settles
    with pytest.raises(asyncio.CancelledError):
        await task
    await worker.upkeep.stop()
    assert await worker.stands() == (97, 0)
    (entry,) = await worker.records()
    assert records.decode(entry.record).settlement == "aborted"


async def test_a_refused_call_leaves_no_reservation(worker: Worker) -> None:
    call = worker.call()
    call.demand = Demand(900, output=1, predicted_tokens=150, fixed_cost=0, output_femto=0)
    with pytest.raises(LimitRefusal):
        async with worker.reservations.hold(call, LIMITS):
            pytest.fail("it was admitted")
    assert await worker.journal.open_reservations("acme") == []
    assert worker.metric("open_reservations") == 0


async def test_stop_waits_no_longer_than_its_grace(worker: Worker) -> None:
    worker.upkeep.start()
    stuck = worker.upkeep.spawn(asyncio.Event().wait())
    await worker.upkeep.stop(grace_seconds=0.01)
    assert stuck.cancelled()
    assert worker.upkeep._loops == []


async def test_background_work_that_fails_is_logged(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise StoreUnavailable("on purpose")

    worker.upkeep.spawn(fails())
    await until(lambda: not worker.upkeep._tasks)
    assert "on purpose" in caplog.text


def test_a_reservation_knows_what_it_holds() -> None:
    reservation = Reservation("req_1", "acme")
    assert (reservation.parts, reservation.open) == ({}, True)


# What a store's hiccup must not do -----------------------------------------------------------------


class Hiccups(RedisLedger):
    """Does not answer the first `count` renewals."""

    count = 1
    renewals = 0

    async def renew(self, workspace: str, reservation_id: str, lease_ms: int) -> bool:
        self.renewals += 1
        if self.renewals <= self.count:
            raise StoreUnavailable("a hiccup")
        return await super().renew(workspace, reservation_id, lease_ms)


async def test_one_renewal_that_fails_does_not_keep_the_others_from_theirs(worker: Worker) -> None:
    ledger = Hiccups(worker.redis, clock=worker.clock)
    care = Upkeep(ledger, worker.metrics, lease_seconds=LEASE, sweep_seconds=60)
    reservations = Reservations(ledger, care, worker.watch, worker.metrics, lease_seconds=LEASE)
    calls = [worker.call() for _ in range(2)]
    care.start()
    async with AsyncExitStack() as requests:
        for call in calls:
            await requests.enter_async_context(reservations.hold(call, LIMITS))
        worker.clock.advance(LEASE / 2)
        await until(lambda: ledger.renewals >= 3)  # one that failed, the other's, and the first one's again
        worker.clock.advance(LEASE / 2 + 0.01)
        assert await worker.ledger.expired("acme", 10) == []
        for call in calls:
            answer(call)
    await care.stop()


async def test_periodic_work_that_fails_in_an_unforeseen_way_goes_on(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    async def stumble() -> None:
        nonlocal rounds
        rounds += 1
        raise LookupError("nobody thought of this")

    worker.upkeep.also(0.01, stumble)
    worker.upkeep.start()
    await until(lambda: rounds >= 2)
    assert "nobody thought of this" in caplog.text


async def test_a_settlement_after_the_sweep_is_counted_and_corrects_it(
    worker: Worker, make_worker: Callable[[str], Worker]
) -> None:
    other, call = make_worker(worker.url), worker.call()
    async with worker.reservations.hold(call, LIMITS):
        worker.clock.advance(LEASE + 0.01)
        assert await other.ledger.sweep("acme", call.request_id)
        answer(call)
    await worker.watch.check()
    assert worker.metric("late_settlements_total") == 1
    assert worker.metric("settlements_total", settlement="exact") == 1
    assert await worker.stands() == (150, 0)


async def test_a_release_after_the_sweep_takes_back_what_was_charged(
    worker: Worker, make_worker: Callable[[str], Worker]
) -> None:
    other, call = make_worker(worker.url), worker.call()

    async def left_by_its_client() -> None:
        async with worker.reservations.hold(call, LIMITS):
            worker.clock.advance(LEASE + 0.01)
            assert await other.ledger.sweep("acme", call.request_id)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await left_by_its_client()
    assert await worker.stands() == (0, 0)
    swept, correction = [records.decode(entry.record) for entry in await worker.records()]
    assert (swept.cost_usd, correction.cost_usd) == ("0.000300000", "-0.000300000")
    assert (await audit(worker.journal)).ok


async def test_a_call_that_is_cancelled_while_it_is_extended_is_released(worker: Worker) -> None:
    call = worker.call()
    with pytest.raises(asyncio.CancelledError):
        async with worker.reservations.hold(call, LIMITS):
            raise asyncio.CancelledError
    assert await worker.records() == []
    assert await worker.stands() == (0, 0)


async def test_what_was_concluded_early_is_settled_once(worker: Worker) -> None:
    call = worker.call()
    async with worker.reservations.hold(call, LIMITS):
        answer(call)
        assert call.conclude is not None
        await call.conclude()
        assert await worker.stands() == (150, 0)
        assert len(await worker.records()) == 1
    assert len(await worker.records()) == 1
