"""Both adapters of the `UpstreamClient` port, without a gateway around them."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from govmiddleware.core.ports import UpstreamClient
from govmiddleware.errors import UpstreamTimeout, UpstreamUnreachable
from govmiddleware.upstream import open_client

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(params=["aiohttp", "httpx"])
async def open_one(
    request: pytest.FixtureRequest, tls: ssl.SSLContext
) -> AsyncIterator[Callable[[float], UpstreamClient]]:
    """Opens a client with a time for the first byte and between bytes."""
    opened: list[UpstreamClient] = []

    def open_one(seconds: float) -> UpstreamClient:
        opened.append(
            open_client(
                connect_timeout=5,
                first_byte_timeout=seconds,
                idle_timeout=seconds,
                library=request.param,
                ssl_context=tls,
            )
        )
        return opened[-1]

    yield open_one
    for client in opened:
        await client.close()


@pytest.fixture
def client(open_one: Callable[[float], UpstreamClient]) -> UpstreamClient:
    return open_one(5)


def test_aiohttp_is_taken_where_it_is_installed_and_httpx_elsewhere(monkeypatch) -> None:
    timeouts = {"connect_timeout": 1, "first_byte_timeout": 1, "idle_timeout": 1}
    assert type(open_client(**timeouts)).__name__ == "AiohttpClient"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert type(open_client(**timeouts)).__name__ == "HttpxClient"


async def test_an_answer_is_read_to_its_end(client: UpstreamClient, raw_upstream) -> None:
    async with (
        raw_upstream(b"HTTP/1.1 201 Made\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\nok") as upstream,
        client.request("POST", upstream.url + "/", [(b"b", b"1")], b"{}") as answer,
    ):
        assert answer.status == 201
        assert answer.headers == [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"2")]
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"ok"


@pytest.mark.parametrize("way", ["leaving", "failing", "being cancelled"])
async def test_an_unread_answer_is_hung_up_on(client: UpstreamClient, raw_upstream, way: str) -> None:
    async def begin(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
        assert await reader.read() == b""
        hung_up.set()

    async def call(url: str) -> None:
        async with client.request("GET", url, [], None) as answer:
            began.set()
            if way == "leaving":
                return
            if way == "failing":
                raise LookupError
            async for _ in answer.chunks():
                await asyncio.get_running_loop().create_future()

    began, hung_up = asyncio.Event(), asyncio.Event()
    async with raw_upstream(begin) as upstream:
        task = asyncio.create_task(call(upstream.url + "/"))
        await asyncio.wait_for(began.wait(), 5)
        if way == "being cancelled":
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(hung_up.wait(), 5)


@pytest.mark.parametrize("body", [None, b"{}", "streamed"])
async def test_no_answer_in_time_is_a_timeout_whatever_was_sent(
    open_one: Callable[[float], UpstreamClient], raw_upstream, body: bytes | str | None
) -> None:
    async def hello() -> AsyncIterator[bytes]:
        yield b"hello"

    async def keep_silent(reader, writer) -> None:
        await reader.read()

    client = open_one(0.2)
    vars(client)["_connect_timeout"] = 0.2  # aiohttp adds it where there is no body
    async with raw_upstream(keep_silent) as upstream:
        with pytest.raises(UpstreamTimeout):
            async with client.request(
                "POST", upstream.url + "/", [], hello() if body == "streamed" else body
            ):
                pass


async def test_a_broken_connection_may_have_delivered_the_request(
    client: UpstreamClient, raw_upstream
) -> None:
    async with raw_upstream(b"") as upstream:
        with pytest.raises(UpstreamUnreachable) as raised:
            async with client.request("POST", upstream.url + "/", [], b"{}"):
                pass
    assert raised.value.sent


async def test_a_failed_connection_has_delivered_nothing(client: UpstreamClient, raw_upstream) -> None:
    async with raw_upstream(b"") as upstream:
        url = upstream.url
    with pytest.raises(UpstreamUnreachable) as raised:
        async with client.request("POST", url + "/", [], b"{}"):
            pass
    assert not raised.value.sent


async def test_many_requests_run_at_once(client: UpstreamClient, raw_upstream) -> None:
    everybody = asyncio.Barrier(150)

    async def wait_for_all(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await everybody.wait()
        writer.write(OK)

    async def call(url: str) -> int:
        async with client.request("POST", url, [], b"") as answer:
            return len([chunk async for chunk in answer.chunks()])

    async with raw_upstream(wait_for_all) as upstream:
        calls = [call(upstream.url + "/") for _ in range(150)]
        assert await asyncio.gather(*calls) == [1] * 150


async def test_a_header_that_is_not_utf_8_does_not_break_the_call(
    client: UpstreamClient, raw_upstream
) -> None:
    headers = [(b"x-name", b"Jos\xe9")]
    async with (
        raw_upstream(OK) as upstream,
        client.request("GET", upstream.url + "/", headers, None) as answer,
    ):
        assert answer.status == 200
    assert b"x-name: jos" in upstream.heads[0].lower()


async def test_a_closed_client_opens_a_new_pool(client: UpstreamClient, raw_upstream) -> None:
    async with raw_upstream(OK) as upstream:
        for _ in range(2):
            async with client.request("GET", upstream.url + "/", [], None) as answer:
                assert answer.status == 200
            await client.close()
