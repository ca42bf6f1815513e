"""Bodies stream in both directions, no faster than they are taken, and end when the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from govmiddleware.core.call import Progress
from govmiddleware.testing.bell import Gate
from govmiddleware.testing.provider import Script, ScriptedProvider

MEGABYTE = 1_000_000
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


async def settled(counter, *, still_for: float = 0.3) -> int:
    """The value of `counter()` once it has not changed for a while."""
    value, since = counter(), time.monotonic()
    async with asyncio.timeout(10):
        while time.monotonic() - since < still_for:
            await asyncio.sleep(0.02)
            if counter() != value:
                value, since = counter(), time.monotonic()
    return value


async def test_each_chunk_arrives_before_the_next_is_made(gateway, http, provider: ScriptedProvider) -> None:
    gate = Gate()
    provider.script = Script(gate=gate)
    async with http.stream("POST", "/v1/chat/completions", json=CHAT) as answer:
        gate.let()
        arriving = answer.aiter_raw()
        for number in range(1, 5):
            assert (await anext(arriving)).startswith(b"data: ")
            assert provider.exchanges[0].chunks_sent == number
            gate.let()
        gate.open()
        rest = b"".join([chunk async for chunk in arriving])
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_an_answer_that_came_in_one_piece_is_sent_in_one(gateway, http, raw_upstream) -> None:
    if gateway.library == "httpx":
        pytest.skip("httpx says that an answer has ended with one more, empty chunk")
    async with raw_upstream(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") as upstream:
        gateway.forward_to(upstream.url)
        inner, bodies = gateway.app, []

        async def app(scope, receive, send) -> None:
            async def noted(message) -> None:
                if message["type"] == "http.response.body":
                    bodies.append((message["body"], message["more_body"]))
                await send(message)

            await inner(scope, receive, noted)

        gateway.app = app
        assert (await http.get("/")).content == b"ok"
    assert bodies == [(b"ok", False)]


class TestAClientThatLeaves:
    """Ends the call upstream, at once."""

    async def test_while_it_waits_for_the_answer(self, gateway, http, provider: ScriptedProvider) -> None:
        provider.script = Script(never_answers=True)
        waiting = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        await provider.until(lambda: bool(provider.exchanges) and provider.exchanges[0].body is not None)
        left_at = time.monotonic()
        waiting.cancel()
        await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
        assert provider.exchanges[0].disconnected_at - left_at < 0.5
        call = await gateway.last_call()
        assert (call.progress, call.status, call.refusal) == (Progress.DISPATCHED, None, None)

    async def test_before_its_call_is_forwarded(self, gateway, http, provider: ScriptedProvider) -> None:
        provider.script = Script(never_answers=True)
        forward, began = gateway.app, threading.Event()

        async def hold_back(scope, receive, send) -> None:
            messages = [await receive()]
            began.set()
            messages.append(await receive())
            assert messages[1]["type"] == "http.disconnect"

            async def again():
                return messages.pop(0) if len(messages) > 1 else messages[0]

            await forward(scope, again, send)

        gateway.app = hold_back
        waiting = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        assert await asyncio.to_thread(began.wait, 5)
        waiting.cancel()
        call = await gateway.last_call()
        assert (call.status, call.refusal) == (None, None)

    async def test_behind_a_body_for_which_the_server_pauses_reading(self, gateway, raw_upstream) -> None:
        async def take(reader, writer) -> None:
            await reader.readuntil(b"begin")
            began.set()
            await reader.readexactly(len(rest))
            ended.set()
            assert await reader.read() == b""
            hung_up.set()

        began, ended, hung_up = asyncio.Event(), asyncio.Event(), asyncio.Event()
        rest = b"x" * 100_000
        async with raw_upstream(take) as upstream:
            gateway.forward_to(upstream.url)
            async with gateway.connection() as (_, writer):
                head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (5 + len(rest))
                writer.write(head + b"begin")
                await asyncio.wait_for(began.wait(), 5)
                writer.write(rest)
                await asyncio.wait_for(ended.wait(), 5)
            await asyncio.wait_for(hung_up.wait(), 5)

    async def test_while_the_answer_streams(self, gateway, http, provider: ScriptedProvider) -> None:
        """The provider makes a chunk every 20 ms, and notices before it has made three more."""
        provider.script = Script(text="word " * 500, pieces=500, interval=0.02)
        async with http.stream("POST", "/v1/chat/completions", json=CHAT) as answer:
            await anext(answer.aiter_raw())
            sent = provider.exchanges[0].chunks_sent
        await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
        assert provider.exchanges[0].chunks_sent - sent <= 3
        call = await gateway.last_call()
        assert (call.progress, call.status) == (Progress.ANSWERING, 200)

    async def test_while_the_answer_pauses(self, gateway, http, provider: ScriptedProvider) -> None:
        gate = Gate()
        provider.script = Script(gate=gate)
        async with http.stream("POST", "/v1/chat/completions", json=CHAT) as answer:
            gate.let()
            await anext(answer.aiter_raw())
        await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
        assert provider.exchanges[0].chunks_sent == 1

    async def test_while_it_still_sends_the_request(self, gateway, raw_upstream) -> None:
        async def take(reader, writer) -> None:
            await reader.readuntil(b"hello")
            arrived.set()
            assert await reader.read() == b""
            hung_up.set()

        arrived, hung_up = asyncio.Event(), asyncio.Event()
        async with raw_upstream(take) as upstream:
            gateway.forward_to(upstream.url)
            async with gateway.connection() as (_, writer):
                writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello")
                await asyncio.wait_for(arrived.wait(), 5)
            await asyncio.wait_for(hung_up.wait(), 5)
        assert (await gateway.last_call()).progress is Progress.DISPATCHED

    async def test_without_a_trace_in_the_log(self, gateway, http, provider, caplog) -> None:
        gate = Gate()
        provider.script = Script(gate=gate)
        async with http.stream("POST", "/v1/chat/completions", json=CHAT) as answer:
            gate.let()
            await anext(answer.aiter_raw())
        await gateway.last_call()
        assert caplog.records == []


async def test_20_megabytes_go_up_and_come_down(gateway, http, upstream_server) -> None:
    seen = 0

    async def echo_length(scope, receive, send) -> None:
        nonlocal seen
        seen, more = 0, True
        while more:
            message = await receive()
            seen += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    upstream_server.app = echo_length
    gateway.forward_to(upstream_server.url)
    received = 0
    async with http.stream("POST", "/", content=bytes(20 * MEGABYTE)) as answer:
        async for chunk in answer.aiter_raw():
            received += len(chunk)
    assert (seen, received) == (20 * MEGABYTE, 20 * MEGABYTE)


async def test_an_upstream_is_held_back_by_a_client_that_does_not_read(gateway, raw_upstream) -> None:
    sent = 0

    async def flood(reader, writer) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (100 * MEGABYTE))
        while sent < 100 * MEGABYTE:
            writer.write(bytes(50_000))
            await writer.drain()
            sent += 50_000

    async with raw_upstream(flood) as upstream:
        gateway.forward_to(upstream.url, idle_timeout=0.2)
        async with gateway.connection() as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            # What sockets and buffers on the way hold is some megabytes; none of it is ours to choose.
            stopped_at = await settled(lambda: sent)
            assert 0 < stopped_at < 50 * MEGABYTE
            received = 0
            while data := await reader.read(MEGABYTE):
                received += len(data)
    assert received > 100 * MEGABYTE, "a slow client is no idle upstream: nothing has timed out"
    assert (await gateway.last_call()).progress is Progress.COMPLETE


async def test_a_client_is_held_back_by_an_upstream_that_does_not_read(gateway, raw_upstream) -> None:
    taken = asyncio.Event()
    received = 0

    async def wait_then_take(reader, writer) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        await taken.wait()
        received = len(await reader.readexactly(100 * MEGABYTE))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < 100 * MEGABYTE:
            writer.write(bytes(50_000))
            await writer.drain()
            sent += 50_000

    sent = 0
    async with raw_upstream(wait_then_take) as upstream:
        gateway.forward_to(upstream.url)
        async with gateway.connection() as (reader, writer):
            writer.write(
                b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100000000\r\n\r\n"
            )
            flooding = asyncio.create_task(flood(writer))
            assert 0 < await settled(lambda: sent) < 50 * MEGABYTE  # the kernel keeps some in four buffers
            taken.set()
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            await flooding
    assert received == 100 * MEGABYTE


async def test_an_answer_is_relayed_while_the_request_is_still_being_sent(gateway, raw_upstream) -> None:
    async def answer_early(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge")
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass

    if gateway.library == "httpx":
        pytest.skip("httpx looks at the answer when the request is sent: see httpx_client.py")
    async with raw_upstream(answer_early) as upstream:
        gateway.forward_to(upstream.url)
        async with gateway.connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nonly a part")
            answer = await asyncio.wait_for(reader.readuntil(b"large"), 5)
    assert answer.startswith(b"HTTP/1.1 413")
    assert (await gateway.last_call()).progress is Progress.COMPLETE


async def test_request_and_answer_can_stream_at_the_same_time(gateway, raw_upstream) -> None:
    async def echo(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n")
        for _ in range(3):
            writer.write(await reader.readexactly(2))

    if gateway.library == "httpx":
        pytest.skip("httpx looks at the answer when the request is sent: see httpx_client.py")
    async with raw_upstream(echo) as upstream:
        gateway.forward_to(upstream.url)
        async with gateway.connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\n")
            for part in (b"ab", b"cd", b"ef"):
                writer.write(part)
                await asyncio.wait_for(reader.readuntil(part), 5)
    assert (await gateway.last_call()).progress is Progress.COMPLETE


async def test_an_early_answer_arrives_at_the_latest_when_the_request_has_been_sent(
    gateway, http, raw_upstream
) -> None:
    async def answer_early(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge")
        while await reader.read(65536):
            pass

    async with raw_upstream(answer_early) as upstream:
        gateway.forward_to(upstream.url)
        answer = await http.post("/", content=bytes(2 * MEGABYTE))
    assert (answer.status_code, answer.content) == (413, b"large")


async def test_a_cancelled_server_task_ends_the_call_upstream(
    gateway, http, provider, upstream_server
) -> None:
    """As at a shutdown: the forwarder is cancelled from outside, which is no disconnect."""
    inner = gateway.app
    running: list[asyncio.Task[None]] = []

    async def app(scope, receive, send) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.append(task)
        await inner(scope, receive, send)

    gateway.app = app
    provider.script = Script(never_answers=True)
    waiting = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
    await provider.until(lambda: bool(provider.exchanges) and provider.exchanges[0].body is not None)
    running[0].get_loop().call_soon_threadsafe(running[0].cancel)
    await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
    assert (await waiting).status_code == 500, "uvicorn's own answer where none has begun"
