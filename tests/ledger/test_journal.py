"""The journal and the directory on the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from govmiddleware.core.journal import SettledHold
from govmiddleware.core.ports import LimitsExceeded
from govmiddleware.core.registries import StoredApiToken
from govmiddleware.ledger import journal
from govmiddleware.ledger.api_tokens import RedisApiTokens
from govmiddleware.ledger.keys import SWEEPER

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

HOSTILE = [
    "ann\nbob",
    "ann 1 2",
    "ann 17 -5\ngov:{acme}:c:user:cost_usd:month:bob 17 99999",
    "ann\rbob",
    "ann\x0b\x0c\x1c\x1d\x1e\x85bob",
    "ann\u2028bob\u2029",
    "\x00",
    "rec",
    " ",
    "名前",
    "'\"\\",
]
"""Names that clients may send: the JSON field `user` may hold any characters."""


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_name_that_a_client_sends_can_garble_or_forge_the_journal(bench: Bench, name: str) -> None:
    hold, other = bench.month(30, of=100, value=name), bench.month(30, of=100, value="bob")
    await bench.open("a", hold, other)
    (reservation,) = await bench.journal.open_reservations(bench.workspace)
    bucket = reservation.holds[0].bucket
    expected = {SettledHold(hold.counter.name, bucket, 30), SettledHold(other.counter.name, bucket, 30)}
    assert set(reservation.holds) == expected
    await bench.settle("a", 30, 30)
    await bench.open("b", hold, other)
    bench.clock.advance(60)
    assert await bench.sweep("b")
    assert [set(entry.holds) for entry in await bench.records()] == [expected, expected]
    await bench.audited()


async def test_entries_are_read_in_pages_and_in_order(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_PAGE", 3)
    for number in range(7):
        await bench.journal.append(bench.workspace, str(number).encode())
    entries = await bench.records()
    ids = [entry.record_id for entry in entries]

    async def read(**bounds: Any) -> list[int]:
        return [int(entry.record) async for entry in bench.journal.entries(bench.workspace, **bounds)]

    assert await read() == list(range(7))
    assert await read(after=ids[2]) == [3, 4, 5, 6]
    assert await read(after=ids[0], until=ids[5]) == [1, 2, 3, 4, 5]
    assert await read(until=ids[0]) == [0]
    assert await read(after=ids[6]) == []


async def test_a_snapshot_is_one_consistent_look(bench: Bench) -> None:
    """While calls come and go, what a snapshot says is reserved is what its open reservations hold, and
    what it says is used is the journal up to its last record."""
    month = bench.month(1, of=10**6)
    traffic = asyncio.create_task(_traffic(bench, 60))
    looks = 0
    while not traffic.done():
        snapshot = await bench.journal.snapshot(bench.workspace, [month.counter.name])
        counter = snapshot.counters.get(month.counter.name)
        if counter is None:
            continue
        looks += 1
        until = [
            entry
            async for entry in bench.journal.entries(bench.workspace, until=snapshot.last_record_id)
            if snapshot.last_record_id != "0-0"
        ]
        (bucket,) = counter.buckets.values()
        assert bucket.used == sum(hold.amount for entry in until for hold in entry.holds)
        assert bucket.reserved == len([hold for each in snapshot.reservations for hold in each.holds])
    await traffic
    assert looks > 1


async def _traffic(bench: Bench, calls: int) -> None:
    async def call(name: str) -> None:
        await bench.open(name, bench.month(1, of=10**6))
        await bench.settle(name, 3)

    for start in range(0, calls, 4):
        await asyncio.gather(*(call(str(start + each)) for each in range(4)))


async def test_a_cancelled_caller_leaves_nothing_that_the_next_one_reads(bench: Bench) -> None:
    """An answer that nobody waited for must not be taken for the answer to the next question."""
    for number in range(30):
        bench.raw.set(f"gov:{{acme}}:{number}", number)
    for number in range(30):
        task = asyncio.create_task(bench.open(f"a{number}", bench.slot(of=10**6)))
        for _ in range(number % 6):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await bench.redis.get(f"gov:{{acme}}:{number}") == str(number).encode()
        await bench.cancel(f"a{number}")
    assert await bench.look(bench.slot(of=10**6)) == (0, 0)


async def test_a_workspace_is_in_the_directory_from_its_first_key_on(bench: Bench) -> None:
    assert await bench.ledger.workspaces() == []
    await bench.open("a")
    assert await bench.ledger.workspaces() == await bench.journal.workspaces() == ["acme"]


async def test_the_directory_of_a_store_that_came_back_empty_is_written_again(bench: Bench) -> None:
    await bench.open("a")
    bench.raw.flushall()
    bench.raw.set(SWEEPER, "another worker", px=10_000)
    assert not await bench.ledger.take_sweep_turn(1000), "even by one whose turn it is not"
    assert await bench.ledger.workspaces() == ["acme"]
    assert await bench.journal.workspaces() == ["acme"]


async def test_a_workspace_that_the_cursor_returns_twice_is_listed_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSCAN may do so where the set is resized meanwhile."""
    once = bench.redis.sscan_iter

    async def twice(*args: Any, **options: Any) -> AsyncIterator[Any]:
        for member in [each async for each in once(*args, **options)]:
            yield member
            yield member

    await RedisApiTokens(bench.redis).add(StoredApiToken("tok_1", "ci", "acme", "operator", 0), "0" * 64)
    monkeypatch.setattr(bench.redis, "sscan_iter", twice)
    assert await bench.ledger.workspaces() == ["acme"]
    assert await bench.journal.workspaces() == ["acme"]
    assert len(await RedisApiTokens(bench.redis).list()) == 1


async def test_a_counter_that_has_gone_and_only_tells_of_a_crossing_is_no_difference(bench: Bench) -> None:
    await bench.open("a", bench.sliding(3, of=5))
    await bench.settle("a", 3)
    bench.clock.advance(181)
    bench.raw.delete(bench.keys.counter(bench.sliding(3, of=5).counter.name))  # as its TTL does
    assert isinstance(await bench.open("b", bench.sliding(9, of=5)), LimitsExceeded)
    await bench.audited()
