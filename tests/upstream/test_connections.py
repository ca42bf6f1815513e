"""An upstream with a bounded number of connections: never more at once, a fair line, and no place that leaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
import pytest

from govmiddleware.core.call import Progress
from govmiddleware.core.refusals import Unavailable
from govmiddleware.errors import UpstreamBusy
from govmiddleware.upstream import Connections

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SOON = 0.2
LONG = 30.0


# The line itself ----------------------------------------------------------------------------------


async def test_places_are_given_in_the_order_of_coming() -> None:
    connections = Connections(2, wait_seconds=LONG)
    entered: list[int] = []
    leave = asyncio.Semaphore(0)

    async def call(number: int) -> None:
        async with connections:
            entered.append(number)
            await leave.acquire()

    calls = []
    for number in range(6):
        calls.append(asyncio.create_task(call(number)))
        await asyncio.sleep(0)
    assert entered == [0, 1]
    for _ in calls:
        leave.release()
    await asyncio.gather(*calls)
    assert entered == [0, 1, 2, 3, 4, 5]


async def test_without_a_bound_nobody_waits() -> None:
    connections = Connections()
    async with connections, connections, connections:
        pass


async def test_who_waits_in_vain_is_told_so() -> None:
    connections = Connections(1, wait_seconds=0.01)
    async with connections:
        with pytest.raises(UpstreamBusy):
            async with connections:
                raise AssertionError("there is one")
    async with connections:
        pass


async def test_no_place_leaks_and_none_is_given_twice_whoever_gives_up_or_is_cancelled() -> None:
    connections = Connections(5, wait_seconds=0.005)
    dice = random.Random(7)
    inside = highest = gave_up = 0

    async def call() -> None:
        nonlocal inside, highest, gave_up
        try:
            async with connections:
                inside += 1
                highest = max(highest, inside)
                try:
                    await asyncio.sleep(dice.random() * 0.002)
                finally:
                    inside -= 1
        except UpstreamBusy:
            gave_up += 1

    calls = []
    for _ in range(1000):
        calls.append(asyncio.create_task(call()))
        if dice.random() < 0.3:
            dice.choice(calls).cancel()
        if dice.random() < 0.1:
            await asyncio.sleep(0.001)
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert highest == 5
    assert gave_up > 0
    assert any(isinstance(result, asyncio.CancelledError) for result in results)
    async with connections, connections, connections, connections, connections:
        with pytest.raises(UpstreamBusy):
            async with connections:
                pass


# Through the gateway ------------------------------------------------------------------------------


async def calls_to_be(count: int, gateway) -> None:
    async with asyncio.timeout(5):
        while len(gateway.calls) < count:
            await asyncio.sleep(0.01)


class Watched:
    """An upstream that keeps its connections and answers each request once `let` returns."""

    def __init__(self, let: Callable[[], Awaitable[object]]) -> None:
        self.let = let
        self.paths: list[bytes] = []
        self.open = self.most = 0
        self._came = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                async with self._came:
                    self.paths.append(head.split()[1])
                    self._came.notify_all()
                await self.let()
                writer.write(OK)
        finally:
            self.open -= 1

    async def until(self, *paths: bytes) -> None:
        """Wait until just these requests have come."""
        async with asyncio.timeout(5), self._came:
            await self._came.wait_for(lambda: len(self.paths) >= len(paths))
        assert self.paths == list(paths)


async def test_an_upstream_has_as_many_connections_as_it_may_and_never_more(
    gateway, http, raw_upstream
) -> None:
    watched = Watched(asyncio.Barrier(3).wait)  # fewer than three at once would never be answered
    async with raw_upstream(watched.serve) as upstream:
        gateway.forward_to(upstream.url, connections=Connections(3, wait_seconds=LONG))
        answers = await asyncio.gather(*(http.get("/") for _ in range(30)))
    assert [answer.status_code for answer in answers] == [200] * 30
    assert watched.most == 3


async def test_a_wait_in_vain_is_a_503_that_cost_nothing(gateway, http, raw_upstream) -> None:
    gate = asyncio.Event()
    watched = Watched(gate.wait)
    async with raw_upstream(watched.serve) as upstream:
        gateway.forward_to(upstream.url, connections=Connections(1, wait_seconds=SOON))
        first = asyncio.create_task(http.get("/first"))
        await watched.until(b"/first")
        busy = await http.get("/second")
        assert busy.status_code == 503
        assert busy.text.startswith("upstream_busy: All connections to the upstream are in use")
        call = gateway.calls[1]
        assert isinstance(call.refusal, Unavailable)
        assert call.progress is Progress.NOT_DISPATCHED
        gate.set()
        assert (await first).status_code == 200
    assert watched.paths == [b"/first"]


async def test_a_client_that_gives_up_waiting_costs_nothing_and_leaves_its_place(
    gateway, http, raw_upstream
) -> None:
    gate = asyncio.Event()
    watched = Watched(gate.wait)
    async with raw_upstream(watched.serve) as upstream:
        gateway.forward_to(upstream.url, connections=Connections(1, wait_seconds=LONG))
        first = asyncio.create_task(http.get("/first"))
        await watched.until(b"/first")
        async with gateway.connection() as (_, writer):
            writer.write(b"GET /second HTTP/1.1\r\nhost: x\r\n\r\n")
            await calls_to_be(2, gateway)
        await gateway.bell.until(lambda: gateway.ended == 1)
        third = asyncio.create_task(http.get("/third"))
        gate.set()
        assert [(await answer).status_code for answer in (first, third)] == [200, 200]
    assert watched.paths == [b"/first", b"/third"]
    left = gateway.calls[1]
    assert (left.progress, left.status, left.refusal) == (Progress.UNREACHED, None, None)


async def test_a_client_that_leaves_its_call_gives_its_connection_to_the_next(
    gateway, http, raw_upstream
) -> None:
    gate = asyncio.Event()
    watched = Watched(gate.wait)
    async with raw_upstream(watched.serve) as upstream:
        gateway.forward_to(upstream.url, connections=Connections(1, wait_seconds=LONG))
        async with gateway.connection() as (_, writer):
            writer.write(b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n")
            await watched.until(b"/first")
            second = asyncio.create_task(http.get("/second"))
            await calls_to_be(2, gateway)
        await watched.until(b"/first", b"/second")
        gate.set()
        assert (await second).status_code == 200


@pytest.mark.parametrize(
    "end",
    [
        b"",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: half",
        None,
    ],
    ids=["no answer", "an error", "half an answer", "half a stream", "a timeout"],
)
async def test_however_a_call_ends_its_place_is_free_again(
    gateway, http, raw_upstream, end: bytes | None
) -> None:
    async def answer(reader, writer) -> None:
        first = upstream.connections == 1
        await reader.readuntil(b"\r\n\r\n")
        if first and end is None:
            await reader.read()
        writer.write((end or b"") if first else OK)

    async with raw_upstream(answer) as upstream:
        connections = Connections(1, wait_seconds=SOON)
        gateway.forward_to(upstream.url, first_byte_timeout=0.5, connections=connections)
        with suppress(httpx.RemoteProtocolError):
            await http.post("/", content=b"{}")
        assert (await http.post("/", content=b"{}")).status_code == 200
