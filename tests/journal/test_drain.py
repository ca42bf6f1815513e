"""Draining: each record once into SQL, whatever stands in its way, and nothing let go before."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from govmiddleware.core.journal import JournalEntry
from govmiddleware.core.ports import JournalFull
from govmiddleware.errors import HistoryUnavailable
from govmiddleware.journal.history import SqlHistory
from govmiddleware.ledger import drain_turn
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.services import drain, records
from govmiddleware.services.records import UNREADABLE, Record
from tests.journal.draining import COUNTERS, Draining

JOURNAL = "gov:{acme}:journal"


@pytest.fixture
async def worker(gov_store: str, history: SqlHistory) -> AsyncIterator[Draining]:
    async with Draining(gov_store, history) as worker:
        yield worker


@pytest.fixture
def trims_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "_KEEP_SECONDS", 0.0)


async def test_what_is_drained_is_the_stream_whole_and_in_order(worker: Draining) -> None:
    await worker.settle("a", "b", "c")
    await worker.settle("d", workspace="other")
    stream = await worker.waiting()
    await worker.drainer.drain()
    assert await worker.drained() == stream == await worker.waiting()
    assert len(stream[0].holds) == len(COUNTERS)
    await worker.settle("e")
    await worker.drainer.drain()
    assert await worker.names() == ["a", "b", "c", "e"]
    assert await worker.names("other") == ["d"]
    assert worker.metric("drained_records_total") == 5


async def test_a_stream_longer_than_a_batch_is_drained_to_its_end(
    worker: Draining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_BATCH", 3)
    monkeypatch.setattr(drain, "_BATCHES_IN_TURN", 2)
    names = [str(number) for number in range(17)]
    await worker.settle(*names)
    await worker.settle("x", workspace="zzz")
    await worker.drainer.drain()
    assert [records.decode(entry.record).reservation_id for entry in await worker.drained()] == names
    assert len(await worker.drained("zzz")) == 1


async def test_a_batch_of_several_pages_has_each_record_once_and_in_order(
    worker: Draining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_BATCH", 9)
    monkeypatch.setattr(drain, "_PAGE", 3)
    names = [str(number) for number in range(23)]
    await worker.settle(*names)
    batches: list[int] = []
    append = worker.history.append

    async def counted(workspace: str, entries: Sequence[JournalEntry]) -> int:
        batches.append(len(entries))
        return await append(workspace, entries)

    monkeypatch.setattr(worker.history, "append", counted)
    await worker.drainer.drain()
    assert [records.decode(entry.record).reservation_id for entry in await worker.drained()] == names
    assert max(batches) > 3, "several pages are one batch"
    assert sum(batches) == len(names)


async def test_a_store_that_loses_records_between_two_pages_is_drained_from_the_start(
    worker: Draining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_BATCH", 9)
    monkeypatch.setattr(drain, "_PAGE", 3)
    await worker.settle("a", "b", "c")
    *_, c = await worker.waiting()
    page, pages = worker.journal.page, itertools.count(1)

    async def failing_over(workspace: str, start: str, count: int) -> list[JournalEntry]:
        if next(pages) == 2:  # a replica without `c` takes over, whose clock is ahead
            await worker.redis.xdel(JOURNAL, c.record_id)
            await worker.settle("d", "e")
        return await page(workspace, start, count)

    monkeypatch.setattr(worker.journal, "page", failing_over)
    await worker.drainer.drain()
    drained = [records.decode(entry.record).reservation_id for entry in await worker.drained()]
    assert drained == ["a", "b", "d", "e"]


async def test_what_sql_has_leaves_the_store_after_its_time_and_is_read_all_the_same(
    worker: Draining,
) -> None:
    await worker.settle("a", "b", "c")
    await worker.drainer.drain()
    worker.seconds += 59
    await worker.drainer.drain()
    assert len(await worker.waiting()) == 3
    worker.seconds += 61
    await worker.drainer.drain()  # from now on it is known that they have been in SQL for a minute
    await worker.settle("d")
    worker.seconds += 60
    await worker.drainer.drain()
    assert [records.decode(entry.record).reservation_id for entry in await worker.waiting()] == ["c", "d"]
    assert await worker.names() == ["a", "b", "c", "d"]


@pytest.mark.usefixtures("trims_at_once")
async def test_nothing_is_let_go_that_sql_does_not_have(worker: Draining) -> None:
    """Calls end while it drains and trims."""
    over = asyncio.Event()

    async def drain_all_the_time() -> None:
        while not over.is_set():
            await worker.drainer.drain()

    draining = asyncio.create_task(drain_all_the_time())
    names = [str(number) for number in range(80)]
    await asyncio.gather(*(worker.settle(*names[first::4]) for first in range(4)))
    over.set()
    await draining
    await worker.drainer.drain()
    await worker.drainer.drain()
    drained = [records.decode(entry.record).reservation_id for entry in await worker.drained()]
    assert sorted(drained, key=str) == sorted(names)
    assert len(await worker.waiting()) == 1, (
        "the last one stays, so that it is known how far the stream is drained"
    )


@pytest.mark.usefixtures("trims_at_once")
async def test_a_store_that_lost_its_last_records_and_gives_their_ids_to_others_is_drained_from_the_start(
    worker: Draining,
) -> None:
    await worker.settle("a", "b", "c", "d")
    a, b, c, d = await worker.waiting()
    await worker.drainer.drain()
    fields = dict(await worker.redis.xrange(JOURNAL, c.record_id, c.record_id))[c.record_id.encode()]
    # A replica that has `a` and `b` takes over, and its clock is behind: `x` gets the id that `d` had, `w` a lower one.
    await worker.redis.delete(JOURNAL)
    for record_id, name in ((a.record_id, "a"), (b.record_id, "b"), (c.record_id, "w"), (d.record_id, "x")):
        said = fields | {b"record": a.record.replace(b'"a"', f'"{name}"'.encode())}
        await worker.redis.xadd(JOURNAL, said, id=record_id)
    for _ in range(3):
        await worker.drainer.drain()
    await worker.settle("e")
    await worker.drainer.drain()
    drained = [records.decode(entry.record).reservation_id for entry in await worker.drained()]
    assert sorted(drained, key=str) == ["a", "b", "c", "d", "e", "w", "x"]


async def test_a_record_that_is_not_there_trims_nothing(worker: Draining) -> None:
    """As after a failover: what stands before it may not be in SQL."""
    await worker.settle("a", "b", "c")
    assert await worker.journal.trim("acme", "99999999999999-0", 0) == 0
    assert await worker.journal.trim("acme", "", 0) == 0
    assert len(await worker.waiting()) == 3


async def test_what_nobody_can_read_is_kept_whole_and_holds_up_nothing(
    worker: Draining, caplog: pytest.LogCaptureFixture
) -> None:
    whole = '{"kind":"outcome","workspace":"acme","reservation_id":"%s"%s}'
    junk = {
        "no JSON": b"\x00\xff{",
        "of a newer version": b'{"kind":["new"],"workspace":"acme"}',
        "not UTF-8 where nobody looks": b'{"kind":"refusal","workspace":"acme","news":"\xff"}',
        "too large": (whole % ("l", ',"usage":{"input_tokens":99999999999999999999}')).encode(),
        "no money": (whole % ("m", ',"cost_usd":"much"')).encode(),
        "too deep": b"[" * 100_000,
    }
    for record in junk.values():
        await worker.redis.sadd("gov:workspaces", "acme")
        await worker.redis.xadd(JOURNAL, {"record": record, "gov:{acme}:c:user:requests:60s:ann": "7 1"})
    await worker.redis.xadd(JOURNAL, {"record": b"{}", "gov:{acme}:c:user:requests:60s:ann": "many"})
    await worker.redis.xadd(JOURNAL, {"at": "now", b"\xff": b"\xfe"})
    await worker.redis.xadd(JOURNAL, {"record": b"{}", "no counter": "1 2"})
    await worker.settle("after")
    stream = await worker.waiting()
    await worker.drainer.drain()
    assert await worker.drained() == stream
    assert [entry.record for entry in stream[: len(junk)]] == list(junk.values())
    kinds = [records.decode(entry.record).kind for entry in stream]
    assert kinds.count(UNREADABLE) >= len(junk) - 3, "what is too large for SQL can be read"
    assert caplog.text.count("cannot be read") == len(stream) - 1
    sums, _ = await worker.history.sums("acme", 0)
    assert sums["user:requests:60s:ann", 7] == len(junk), "what it used is known all the same"


async def test_any_name_comes_out_as_it_went_in(worker: Draining) -> None:
    """PostgreSQL has no NUL, and indexes no more than 2,700 bytes."""
    names = ["a\x00b", "\\0", "\\", "\\\\0\x00", "名前\U0001f642\ud7ff", "a" * 2600, "'\"%s:x"]
    await worker.redis.sadd("gov:workspaces", "acme")
    for name in names:
        said: dict[str, Any] = {"user": name, "model_served": name, "tags": {name: name}}
        record = Record(kind="outcome", workspace="acme", reservation_id=f"r{name}", **said)
        fields = {"record": records.encode(record), f"gov:{{acme}}:c:user:requests:60s:{name}": "7 1"}
        await worker.redis.xadd(JOURNAL, fields)
    stream = await worker.waiting()
    await worker.drainer.drain()
    assert await worker.drained() == stream
    counters = [f"user:requests:60s:{name}" for name in names]
    assert sorted(await worker.history.counters("acme")) == sorted(counters)
    sums, _ = await worker.history.sums("acme", 0)
    assert sums == {(counter, 7): 1 for counter in counters}


async def test_a_workspace_that_fails_keeps_no_other_waiting(
    worker: Draining, caplog: pytest.LogCaptureFixture
) -> None:
    await worker.settle("a")
    await worker.redis.sadd("gov:workspaces", "Zoo", "aaa")
    await worker.redis.set("gov:{Zoo}:journal", "no stream")
    with caplog.at_level(logging.WARNING, drain.logger.name):
        for _ in range(3):
            await worker.drainer.drain()
    assert len(await worker.drained()) == 1
    (warning,) = worker.drainer.warnings()
    assert "WRONGTYPE" in warning
    assert caplog.text.count("workspace Zoo takes no records") == 1


async def test_one_of_all_workers_drains_and_another_goes_on_where_it_ended(
    worker: Draining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_turn, "TURN_SECONDS", 0.3)
    second = worker.new_drainer()
    await worker.settle("a")
    await worker.drainer.drain()
    await worker.settle("b")
    await second.drain()
    assert len(await worker.drained()) == 1, "it is the first one's turn"
    assert second.report == worker.drainer.report
    await worker.drainer.close()
    assert len(await worker.drained()) == 2, "it drains once more at its end"
    await worker.settle("c")
    await second.drain()
    assert len(await worker.drained()) == 3, "nobody waits for one that ended"
    third = worker.new_drainer()
    await worker.settle("d")
    async with asyncio.timeout(5):  # `second` is dead from now on
        while len(await worker.drained()) < 4:
            await third.drain()
    assert worker.metric("drained_records_total") == 4


async def test_two_who_drain_at_once_add_each_record_once(
    worker: Draining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_BATCH", 7)
    monkeypatch.setattr(drain, "_KEEP_SECONDS", 0.0)
    names = [str(number) for number in range(60)]

    async def drain_alone() -> None:
        drainer = worker.new_drainer()
        monkeypatch.setattr(drainer._turn, "take", _always)
        for _ in range(8):
            await drainer.drain()

    await asyncio.gather(drain_alone(), drain_alone(), drain_alone(), worker.settle(*names))
    await worker.drainer.close()
    drained = [records.decode(entry.record).reservation_id for entry in await worker.drained()]
    assert drained == names
    sums, _ = await worker.history.sums("acme", 0)
    assert sum(sums.values()) == len(COUNTERS) * 3 * len(names)


async def _always(report: object = None) -> bool:
    return True


async def test_what_is_in_sql_does_not_fill_the_journal(worker: Draining) -> None:
    small = RedisLedger(worker.redis, journal_max_records=3)

    async def opens(name: str) -> bool:
        answer = await small.acquire("acme", name, [], lease_ms=1000, expired_record=b"{}")
        return not isinstance(answer, JournalFull)

    await worker.settle("a", "b", "c")
    assert not await opens("x")
    assert await small.journal_is_full()
    await worker.drainer.drain()
    assert len(await worker.waiting()) == 3
    assert await opens("x")
    assert not await small.journal_is_full()
    await worker.settle("d", "e", "f")
    assert not await opens("y")


async def test_an_exception_nobody_foresaw_is_told_and_the_next_round_goes_on(
    worker: Draining, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worker.settle("a")
    with monkeypatch.context() as broken:
        broken.setattr(worker.history, "append", _raise)
        await worker.drainer.drain()
        await worker.drainer.drain()
    assert caplog.text.count("Traceback") == 1
    assert worker.drainer.report is not None
    assert worker.drainer.report.error == "nobody foresaw this"
    assert worker.drainer.report.waiting == 1
    await worker.drainer.drain()
    assert worker.drainer.report.error == ""
    assert len(await worker.drained()) == 1


async def _raise(*_: object) -> int:
    raise ArithmeticError("nobody foresaw this")


async def test_a_database_that_is_away_loses_nothing_and_is_told_of_once(
    worker: Draining, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worker.settle("a")
    await worker.drainer.drain()
    with monkeypatch.context() as away:
        away.setattr(worker.history, "ping", _away)
        await worker.settle("b", "c")
        for _ in range(3):
            await worker.drainer.drain()
        assert worker.metric("waiting_records") == 2
        assert worker.metric("database_down") == 1
        (warning,) = worker.drainer.warnings()
        assert "2 records wait in the store" in warning
        assert "somebody stopped it" in warning
    assert caplog.text.count("the journal's database takes no records") == 1
    await worker.drainer.drain()
    assert await worker.names() == ["a", "b", "c"]
    assert (worker.metric("waiting_records"), worker.metric("database_down")) == (0, 0)
    assert worker.drainer.warnings() == []


async def _away() -> None:
    raise HistoryUnavailable("somebody stopped it")
