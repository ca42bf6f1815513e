"""Calls that are merged on one connection: what becomes of each when others, or the store, fail."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError, ReadOnlyError, ResponseError, TimeoutError
from tests.sidecar.waiting import until
from tests.stores.kinds import administrator
from tests.stores.server import Server, valkey_binary

from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger import connection
from govmiddleware.ledger.connection import Server as Client
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.merged import MergedCalls
from govmiddleware.ledger.scripts import Script

PATIENCE = 2.0
COUNT = Script("#!lua\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
def impatient(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(valkey_binary(), tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def raw(server: Server) -> Iterator[Any]:
    """For looking, and for doing harm."""
    with administrator(server.url) as raw:
        raw.flushall()
        yield raw


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[MergedCalls]:
    client = connect(url)
    assert isinstance(client, Client)
    try:
        await client.merged.ask("PING")
        yield client.merged
    finally:
        await client.aclose()


@pytest.fixture
async def calls(server: Server, raw: Any) -> AsyncIterator[MergedCalls]:
    async with opened(server.url) as calls:
        yield calls


@asynccontextmanager
async def frozen(server: Server) -> AsyncIterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


async def answered(*calls: asyncio.Future[Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


# One write, and each its own answer ---------------------------------------------------------------


async def test_what_one_turn_of_the_event_loop_asks_reaches_the_store_in_one_piece(
    calls: MergedCalls, raw: Any
) -> None:
    before = raw.info("stats")["total_reads_processed"]
    assert await answered(*(calls.ask("INCR", "n") for _ in range(16))) == [*range(1, 17)]
    assert raw.info("stats")["total_reads_processed"] - before == 1 + 1, "and the one that asks for this"


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_is_cancelled_disturbs_nobody(calls: MergedCalls, seed: int) -> None:
    dice = random.Random(seed)

    sent = {number: b"%d," % number * dice.randrange(1, 2000) for number in range(500)}
    heard: dict[int, bytes] = {}

    async def echo(number: int) -> None:
        for _ in range(dice.randrange(20)):
            await asyncio.sleep(0)
        heard[number] = await calls.ask("ECHO", sent[number])

    tasks = [asyncio.create_task(echo(number)) for number in sent]
    while not all(task.done() for task in tasks):
        dice.choice(tasks).cancel()
        await asyncio.sleep(0)
    assert heard == {number: sent[number] for number in heard}
    assert {number for number in sent if not tasks[number].cancelled()} == set(heard)
    assert 10 < len(heard) < 490


async def test_a_call_that_is_cancelled_before_its_turn_is_never_sent(calls: MergedCalls, raw: Any) -> None:
    calls.ask("INCR", "n").cancel()
    assert await calls.ask("PING") == b"PONG"
    assert raw.get("n") is None


async def test_an_error_is_the_one_caller_s_who_asked_for_it(calls: MergedCalls) -> None:
    first, wrong, last = await answered(calls.ask("SET", "n", "x"), calls.ask("INCR", "n"), calls.ask("PING"))
    assert (first, last) == (b"OK", b"PONG")
    assert isinstance(wrong, ResponseError)


async def test_a_store_that_forgot_a_script_runs_each_merged_call_once(server: Server, raw: Any) -> None:
    client = connect(server.url)
    for forget in (raw.script_flush, raw.ping, raw.script_flush):
        raw.delete("n")
        forget()
        counted = await asyncio.gather(*(COUNT.merged(client, ["n"], [1]) for _ in range(20)))
        assert sorted(counted) == [*range(1, 21)]
    await client.aclose()


# A store in trouble -------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
async def test_each_call_has_its_own_patience_with_a_store_that_stalls(
    calls: MergedCalls, server: Server
) -> None:
    async with frozen(server):
        early = calls.ask("ECHO", "early")
        await asyncio.sleep(PATIENCE * 0.7)
        late = calls.ask("ECHO", "late")
        assert isinstance((await answered(early))[0], TimeoutError)
        assert not late.done()
        anew = calls.ask("ECHO", "anew")
    assert await answered(late, anew) == [b"late", b"anew"]


@pytest.mark.usefixtures("impatient")
async def test_a_call_whose_turn_does_not_come_in_time_is_never_sent(
    calls: MergedCalls, server: Server, raw: Any
) -> None:
    async with frozen(server):
        asked = [calls.ask("INCR", "n") for _ in range(80)]
        assert {type(error) for error in await answered(*asked)} == {TimeoutError}
    assert await calls.ask("PING") == b"PONG"
    until(lambda: int(raw.get("n")) == 64)
    assert await calls.ask("INCR", "n") == 65


async def test_nothing_more_is_sent_to_a_store_that_does_not_read(
    calls: MergedCalls, server: Server, raw: Any
) -> None:
    async with frozen(server):
        large = calls.ask("SET", "large", b"x" * 16_000_000)
        await asyncio.sleep(0)  # it is on its way, and fills the buffers of both sides
        following = calls.ask("INCR", "n")
        await asyncio.sleep(0.05)
        following.cancel()
    assert await large == b"OK"
    assert await calls.ask("PING") == b"PONG"
    assert raw.get("n") is None


@pytest.mark.usefixtures("impatient")
async def test_an_event_loop_that_is_late_does_not_take_the_store_for_slow(calls: MergedCalls) -> None:
    asked = calls.ask("ECHO", "answered long ago")
    await asyncio.sleep(0)
    time.sleep(PATIENCE * 1.1)  # noqa: ASYNC251, to hold the loop up is the point
    assert await asked == b"answered long ago"


@asynccontextmanager
async def cut(url: str) -> AsyncIterator[tuple[str, list[int]]]:
    """A way to the store, each connection of which ends after so many bytes of answers: the next one in the list,
    without one never."""
    after: list[int] = []
    carried: list[asyncio.Task[Any] | None] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: int) -> None:
        while end and (piece := await reader.read(min(end, 65536))):
            writer.write(piece)
            end -= len(piece)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried.append(asyncio.current_task())
        there = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        end = after.pop(0) if after else 10**9
        await asyncio.gather(carry(reader, there[1], 10**9), carry(there[0], writer, end))

    async with await asyncio.start_server(connected, "127.0.0.1") as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", after
    await asyncio.gather(*filter(None, carried))


async def test_a_connection_that_breaks_in_an_answer_fails_those_who_wait_for_it_and_no_more(
    server: Server,
) -> None:
    async with cut(server.url) as (url, after):
        after.append(len(b"+PONG\r\n" + b"$3\r\none\r\n" + b"$3\r\nt"))
        async with opened(url) as calls:
            one, *others = await answered(*(calls.ask("ECHO", word) for word in ("one", "two", "six")))
            assert one == b"one"
            assert {type(error) for error in others} == {ConnectionError}
            assert await calls.ask("ECHO", "anew") == b"anew"


async def test_a_connection_that_the_store_closed_while_nobody_asked_is_not_used_again(
    calls: MergedCalls, raw: Any
) -> None:
    for client in raw.client_list(_type="normal"):
        if client["cmd"] != "client|list":
            raw.client_kill_filter(_id=client["id"])
    await asyncio.sleep(0.05)
    assert await calls.ask("PING") == b"PONG"


async def test_a_store_that_cannot_be_reached_is_unavailable_at_once(tmp_path: Path) -> None:
    client = connect("redis://127.0.0.1:1")
    began = time.monotonic()
    for error in await answered(*(asyncio.ensure_future(COUNT.merged(client, ["n"], [1])) for _ in range(3))):
        assert isinstance(error, StoreUnavailable)
        assert "ConnectionError: Error 111 connecting" in str(error)
    assert time.monotonic() - began < PATIENCE
    await client.aclose()


async def test_a_store_that_takes_no_more_clients_says_so(server: Server, raw: Any) -> None:
    client = connect(server.url)
    raw.config_set("maxclients", len(raw.client_list()))
    try:
        with pytest.raises(StoreUnavailable, match="max number of clients reached"):
            await COUNT.merged(client, ["n"], [1])
    finally:
        raw.config_set("maxclients", 10_000)
        await client.aclose()


@pytest.mark.usefixtures("impatient")
async def test_connecting_counts_towards_patience() -> None:
    connections = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()  # never answers AUTH
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1") as listening:
        client: Any = connect(f"redis://:secret@127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="TimeoutError"):
            await COUNT.merged(client, ["n"], [1])
        assert PATIENCE <= time.monotonic() - began < 3 * PATIENCE
        client.merged.ask("PING").add_done_callback(lambda ended: ended.exception())
        while connections < 2:
            await asyncio.sleep(0.01)
        await client.aclose()


async def test_a_master_that_was_demoted_is_connected_to_anew(calls: MergedCalls, raw: Any) -> None:
    before = await calls.ask("CLIENT", "ID")
    raw.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(ReadOnlyError):
            await calls.ask("INCR", "n")
        assert await calls.ask("CLIENT", "ID") > before
    finally:
        raw.replicaof("NO", "ONE")


class Elsewhere(ConnectionPool):
    """Knows of connections that lead to a former master."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.made: list[Any] = []
        self.left: list[Any] = []

    def make_connection(self) -> Any:
        self.made.append(super().make_connection())
        return self.made[-1]

    def is_current(self, connection: Any) -> bool:
        return connection not in self.left


async def test_once_another_master_is_known_the_former_one_is_asked_no_more(server: Server, raw: Any) -> None:
    pool = Elsewhere(port=server.port, protocol=2)
    calls = MergedCalls(pool, lambda: PATIENCE)
    former, slow = calls.ask("CLIENT", "ID"), calls.ask("BLPOP", "list", "0.1")
    number = await former
    pool.left = [*pool.made]
    assert await calls.ask("CLIENT", "ID") != number
    assert not slow.done()
    assert await slow is None, "what it was asked before is answered still"
    await asyncio.to_thread(until, lambda: number not in [int(each["id"]) for each in raw.client_list()])
    await calls.aclose()


# Closing ------------------------------------------------------------------------------------------


async def test_closing_ends_what_waits_for_the_store(server: Server, raw: Any) -> None:
    client: Any = connect(server.url)
    await client.merged.ask("PING")
    async with frozen(server):
        asked = [client.merged.ask("PING") for _ in range(80)]
        await asyncio.sleep(0)
        await client.aclose()
        assert {type(error) for error in await answered(*asked)} == {ConnectionError}
    assert await client.merged.ask("PING") == b"PONG"
    await client.aclose()
    until(lambda: len(raw.client_list(_type="normal")) == 1)


@pytest.mark.parametrize(
    "loops", [(asyncio.new_event_loop,) * 2, (uvloop.new_event_loop, asyncio.new_event_loop)]
)
def test_one_client_serves_on_one_event_loop_after_another(
    loops: tuple[Callable[[], asyncio.AbstractEventLoop], ...], server: Server
) -> None:
    client: Any = connect(server.url)

    async def use() -> None:
        assert await answered(*(client.merged.ask("ECHO", each) for each in range(100))) == [
            b"%d" % each for each in range(100)
        ]
        await client.aclose()

    for loop in loops:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(use())
