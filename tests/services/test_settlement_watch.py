"""What a store has lost of what it had acknowledged is healed or reported, and nothing else is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from tests.services.forgetful import ForgetfulStore
from tests.services.worker import LEASE, Worker, answer, new_call, until

from govmiddleware.app import Governance
from govmiddleware.core.call import Call
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import Lifetime, Now
from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.services import records, settlement_watch
from govmiddleware.services.audit import audit
from govmiddleware.testing.clock import Clock

LIMITS = (
    Limit("ever", Scope.WORKSPACE, Meter.TOTAL_TOKENS, Lifetime(), 10**9),
    Limit("slots", Scope.WORKSPACE, Meter.CONCURRENCY, Now(), 1000),
)
TOKENS = 150
"""Of each call; a million cost a dollar."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ForgetfulStore]:
    store = ForgetfulStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
async def worker(store: ForgetfulStore, make_worker: Callable[[str], Worker]) -> Worker:
    worker = make_worker(store.url)
    await worker.watch.check()
    return worker


@dataclass
class Running:
    """A call that holds its reservation."""

    call: Call
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def end(self) -> str:
        answer(self.call)
        await self.stack.aclose()
        return self.call.request_id


async def begin(worker: Worker, limits: tuple[Limit, ...] = LIMITS) -> Running:
    running = Running(worker.call())
    await running.stack.enter_async_context(worker.reservations.hold(running.call, limits))
    return running


async def whole_call(worker: Worker) -> str:
    return await (await begin(worker)).end()


async def check(worker: Worker) -> None:
    """As the upkeep does, until the store is there again."""
    await until(lambda: not worker.upkeep._tasks)
    async with asyncio.timeout(10):
        while True:
            try:
                return await worker.watch.check()
            except StoreUnavailable:
                await asyncio.sleep(0.01)


async def journaled(worker: Worker) -> list[str | None]:
    return [records.decode(entry.record).request_id for entry in await worker.records()]


async def books_are_clean(worker: Worker, calls: int) -> bool:
    return await worker.stands() == (TOKENS * calls, 0) and (await audit(worker.journal)).ok


def lost(worker: Worker) -> float | None:
    return worker.metric("lost_settlements_total")


def settled(worker: Worker) -> float:
    name, labels = "govmiddleware_settlements_total", {"settlement": "exact"}
    return worker.metrics.registry.get_sample_value(name, labels) or 0


# Lost, or healed ----------------------------------------------------------------------------------


async def test_what_was_lost_is_healed_where_its_reservation_survived_and_reported_where_not(
    worker: Worker, store: ForgetfulStore, caplog: pytest.LogCaptureFixture
) -> None:
    kept = [await whole_call(worker) for _ in range(3)]
    running = [await begin(worker) for _ in range(4)]
    store.remember()
    forgotten = [await whole_call(worker) for _ in range(5)]
    healed = [await each.end() for each in running]
    store.crash(forget=True)
    await check(worker)
    assert sorted(await journaled(worker)) == sorted(kept + healed)
    assert await books_are_clean(worker, 7)
    assert lost(worker) == 5
    (report,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    said = report.getMessage()
    assert f"5 settlements of workspace acme: {5 * TOKENS} tokens and 0.000750000 USD" in said
    assert [name for name in kept + healed + forgotten if name in said] == forgotten
    assert settled(worker) == 12, "each was counted when it was acknowledged, and not again"


async def test_a_call_that_was_running_when_its_reservation_was_lost_is_reported_at_its_end(
    worker: Worker, store: ForgetfulStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.remember()
    running = await begin(worker)
    store.crash(forget=True)
    await check(worker)
    assert lost(worker) == 0
    name = await running.end()
    await check(worker)
    assert lost(worker) == 1
    assert worker.metric("late_settlements_total") == 0
    assert name in caplog.text
    assert settled(worker) == 0


async def test_a_call_that_was_running_keeps_a_reservation_that_survived(
    worker: Worker, store: ForgetfulStore
) -> None:
    running = await begin(worker)
    store.remember()
    await whole_call(worker)
    store.crash(forget=True)
    await running.end()
    await check(worker)
    assert lost(worker) == 1
    assert await books_are_clean(worker, 1)


async def test_a_settlement_of_which_only_an_extension_was_lost_is_settled_in_part_and_reported(
    worker: Worker, store: ForgetfulStore, caplog: pytest.LogCaptureFixture
) -> None:
    running = [await begin(worker, LIMITS[1:]) for _ in range(2)]
    store.remember()
    for each in running:
        await each.stack.enter_async_context(worker.reservations.hold(each.call, LIMITS))
    acknowledged = await running[0].end()
    store.crash(forget=True)
    unsettled = await running[1].end()
    await check(worker)
    assert sorted(await journaled(worker)) == sorted([acknowledged, unsettled])
    assert lost(worker) == 2
    assert acknowledged in caplog.text
    assert unsettled in caplog.text
    assert (await audit(worker.journal)).ok


async def test_of_a_call_that_limits_over_the_deployment_bind_both_parts_are_looked_after(
    worker: Worker, store: ForgetfulStore
) -> None:
    wide = Limit("wide", Scope.DEPLOYMENT, Meter.TOTAL_TOKENS, Lifetime(), 10**9)
    running = await begin(worker, (*LIMITS, wide))
    store.remember()
    await running.end()
    store.crash(forget=True)
    await check(worker)
    assert len(await journaled(worker)) == 1, "healed"
    assert await books_are_clean(worker, 1)
    assert lost(worker) == 0


async def test_what_another_worker_swept_in_between_is_charged_as_reserved_and_told_as_late(
    worker: Worker,
    store: ForgetfulStore,
    make_worker: Callable[[str], Worker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = await begin(worker)
    store.remember()
    name = await running.end()
    store.crash(forget=True)
    other = make_worker(store.url)
    worker.clock.advance(LEASE)
    assert await other.ledger.sweep("acme", name)
    await check(worker)
    assert lost(worker) == 0
    assert worker.metric("late_settlements_total") == 1
    assert f"{name} was swept before it was settled" in caplog.text
    assert await worker.stands() == (300, 0)


async def test_each_loss_is_reported_once_however_often_the_store_restarts(
    worker: Worker, store: ForgetfulStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.remember()
    first = await whole_call(worker)
    store.crash(forget=True)
    await check(worker)
    await check(worker)
    store.remember()
    second = await whole_call(worker)
    store.crash(forget=True)
    store.crash(forget=False)
    await check(worker)
    store.crash(forget=False)
    await check(worker)
    assert lost(worker) == 2
    assert caplog.text.count(first) == caplog.text.count(second) == 1


async def test_what_was_healed_and_lost_again_is_healed_again(worker: Worker, store: ForgetfulStore) -> None:
    running = await begin(worker)
    store.remember()
    await running.end()
    for _ in range(2):
        store.crash(forget=True)
        await check(worker)
        assert await books_are_clean(worker, 1)
    assert lost(worker) == 0
    assert settled(worker) == 1


async def test_a_loss_in_the_first_second_of_a_worker_is_seen_too(
    store: ForgetfulStore, make_worker: Callable[[str], Worker]
) -> None:
    worker = make_worker(store.url)  # which has not checked anything yet
    store.remember()
    await whole_call(worker)
    store.crash(forget=True)
    await check(worker)
    assert lost(worker) == 1


async def test_a_check_that_the_store_cuts_off_is_done_again(
    worker: Worker, store: ForgetfulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await begin(worker)
    store.remember()
    await whole_call(worker)
    await running.end()
    store.crash(forget=True)
    settle, failures = worker.ledger.settle, iter([StoreUnavailable("a hiccup")])

    async def stumble(*arguments: object) -> object:
        for failure in failures:
            raise failure
        return await settle(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(worker.ledger, "settle", stumble)
    await check(worker)
    assert next(failures, None) is None, "it stumbled"
    assert lost(worker) == 1
    assert await books_are_clean(worker, 1)


# Nothing lost -------------------------------------------------------------------------------------


async def test_restarts_that_lose_nothing_are_not_mentioned(
    worker: Worker, store: ForgetfulStore, caplog: pytest.LogCaptureFixture
) -> None:
    running = await begin(worker)
    for _ in range(3):
        await whole_call(worker)
        store.crash(forget=False)
        await check(worker)
    await running.end()
    await check(worker)
    assert await books_are_clean(worker, 4)
    assert (lost(worker), worker.metric("late_settlements_total"), settled(worker)) == (0, 0, 4)
    assert "lost" not in caplog.text


async def test_while_the_same_run_answers_the_journal_is_left_alone(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await whole_call(worker)
    monkeypatch.delattr(RedisJournal, "recent")
    await check(worker)


async def test_a_settlement_whose_answer_was_lost_counts_once_and_is_not_called_late(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settle, unanswered = worker.ledger.settle, iter([StoreUnavailable("its answer was lost")])

    async def taken_without_an_answer(*arguments: object) -> object:
        answered = await settle(*arguments)  # type: ignore[arg-type]
        for error in unanswered:
            raise error
        return answered

    monkeypatch.setattr(worker.ledger, "settle", taken_without_an_answer)
    await whole_call(worker)
    await check(worker)
    await check(worker)
    assert (lost(worker), worker.metric("late_settlements_total"), settled(worker)) == (0, 0, 1)
    assert await books_are_clean(worker, 1)
    assert caplog.text.count("ERROR") == 0


async def test_a_process_explains_its_last_settlements_before_it_ends(
    make_governance: Callable[..., Governance], gov_clock: Clock
) -> None:
    async with make_governance(clock=gov_clock) as governance:
        call = new_call()
        async with governance.reservations.hold(call, LIMITS):
            gov_clock.advance(governance.settings.lease_seconds)
            assert await governance.ledger.sweep("acme", call.request_id)
            answer(call)
    assert governance.metrics.registry.get_sample_value("govmiddleware_late_settlements_total") == 1


# What is kept -------------------------------------------------------------------------------------


async def test_settlements_are_kept_for_some_seconds_of_the_stores_life_and_bounded_in_number(
    worker: Worker, store: ForgetfulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement_watch, "_KEPT_MOST", 3)
    names = [await whole_call(worker) for _ in range(5)]
    assert [name for _, name in worker.watch._kept] == names[-3:]
    await check(worker)
    assert [name for _, name in worker.watch._kept] == names[-3:]
    monkeypatch.setattr(settlement_watch, "_KEPT_SECONDS", 0)
    await check(worker)
    assert list(worker.watch._kept) == []


async def test_a_store_that_answers_but_takes_no_writes_is_doubted_from_its_last_write_on(
    worker: Worker, store: ForgetfulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a primary without its replicas does, until one of them takes over."""
    monkeypatch.setattr(settlement_watch, "_KEPT_SECONDS", 0)
    store.remember()
    await whole_call(worker)
    with Redis.from_url(store.url) as redis:
        redis.config_set("min-replicas-to-write", 1)
    await worker.watch.check()
    store.crash(forget=True)
    await check(worker)
    assert lost(worker) == 1


async def test_a_settlement_that_was_long_in_being_taken_is_kept_from_then_on(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement_watch, "_KEPT_SECONDS", 1)
    settle, refused_until = worker.ledger.settle, time.monotonic() + 1

    async def refuse_for_a_while(*arguments: object) -> object:
        if time.monotonic() < refused_until:
            raise StoreUnavailable("not yet")
        return await settle(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(worker.ledger, "settle", refuse_for_a_while)
    name = await whole_call(worker)
    await check(worker)
    assert [name for _, name in worker.watch._kept] == [name]


async def test_an_outage_however_long_is_no_time_in_which_settlements_are_forgotten(
    worker: Worker, store: ForgetfulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.remember()
    await whole_call(worker)
    monkeypatch.setattr(settlement_watch, "_KEPT_SECONDS", 0)  # all that is kept is older than that
    store.crash(forget=True)
    await check(worker)
    assert lost(worker) == 1


async def test_what_was_packed_is_healed_or_reported_and_only_once(
    worker: Worker, store: ForgetfulStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement_watch, "_PACKED_AT_ONCE", 2)
    kept = await whole_call(worker)
    running = [await begin(worker) for _ in range(2)]
    store.remember()
    forgotten = [await whole_call(worker) for _ in range(2)]
    healed = [await each.end() for each in running]
    await check(worker)
    assert [name for _, name in worker.watch._kept] == healed[1:]  # the rest is in packs
    store.crash(forget=True)
    await check(worker)
    assert sorted(await journaled(worker)) == sorted([kept, *healed])
    assert await books_are_clean(worker, 3)
    assert lost(worker) == len(forgotten)
    store.crash(forget=False)
    await check(worker)
    assert lost(worker) == len(forgotten)


async def test_packs_are_kept_as_long_and_bounded_in_number_too(
    store: ForgetfulStore, make_worker: Callable[[str], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement_watch, "_PACKED_AT_ONCE", 2)
    monkeypatch.setattr(settlement_watch, "_KEPT_MOST", 4)
    worker = make_worker(store.url)
    names = []
    for _ in range(3):
        names += [await whole_call(worker) for _ in range(2)]
        await check(worker)
    packed = [sent.reservation_id for pack in worker.watch._packs for sent in pack.unpacked()]
    assert packed == names[-4:]
    monkeypatch.setattr(settlement_watch, "_KEPT_SECONDS", 0)
    await check(worker)
    assert not worker.watch._packs


# At random ----------------------------------------------------------------------------------------

moments = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=8)
"""Of calls: when each begins, and how much later it ends."""


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls=moments, cut=st.integers(0, 12), crashed=st.integers(0, 3), restarts=st.integers(1, 2))
def test_of_any_calls_just_those_are_lost_whose_reservation_and_more_fell_behind_the_cut(
    calls: list[tuple[int, int]],
    cut: int,
    crashed: int,
    restarts: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """At `cut` the store syncs for the last time; `crashed` later it is killed. Model: a call stands in the
    books unless it began between the two."""
    asyncio.run(_live(tmp_path_factory.mktemp("store"), calls, cut, cut + crashed, restarts))


async def _live(home: Path, calls: list[tuple[int, int]], cut: int, crash: int, restarts: int) -> None:
    store = ForgetfulStore(home)
    worker = Worker(store.url, Clock())
    running: dict[int, Running] = {}
    try:
        await worker.watch.check()
        for now in range(20):
            if now == cut:
                store.remember()
            if now == crash:
                for again in range(restarts):
                    store.crash(forget=again == 0)
                await check(worker)
            for number, (begins, lasts) in enumerate(calls):
                if now == begins:
                    running[number] = await begin(worker)
                if now == begins + lasts:
                    await running[number].end()
        await check(worker)
        gone = {number for number, (begins, _) in enumerate(calls) if cut <= begins < crash}
        names = [running[number].call.request_id for number in range(len(calls)) if number not in gone]
        assert lost(worker) == len(gone)
        assert sorted(await journaled(worker)) == sorted(names)
        assert (await audit(worker.journal)).ok
        if names:
            assert await worker.stands() == (TOKENS * len(names), 0)
    finally:
        await worker.end()
        store.close()
