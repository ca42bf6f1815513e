"""HTTP/1.1 between gateway and upstream, as its bytes: connections, codings, interim and early answers."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import zlib

import pytest

from govmiddleware.core.call import Progress

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def post(body: bytes, *, method: bytes = b"POST", chunked: bool = False) -> bytes:
    head = method + b" / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    if chunked:
        return head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head + b"content-length: %d\r\n\r\n%s" % (len(body), body)


def body_of(answer: bytes) -> bytes:
    """Of one answer on a connection that was closed behind it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head:
        return body
    whole = b""
    while size := int(body.partition(b"\r\n")[0], 16):
        chunk = body.partition(b"\r\n")[2]
        whole, body = whole + chunk[:size], chunk[size + 2 :]
    return whole


class Requests:
    """An upstream that reads each request to its end, and answers the next thing on its list."""

    def __init__(self, *answers: bytes, then_close: bool = False) -> None:
        self.answers = list(answers)
        self.then_close = then_close
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.answers:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            self.bodies.append(await self._body(head, reader))
            writer.write(self.answers.pop(0))
            await writer.drain()
            if self.then_close:
                return

    async def _body(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
            return body
        _, found, length = head.partition(b"content-length: ")
        return await reader.readexactly(int(length.partition(b"\r\n")[0])) if found else b""


# Connections --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (OK, 1),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 3),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 3),
    ],
    ids=["by length", "in chunks", "that closes", "HTTP/1.0"],
)
async def test_a_connection_is_used_again_unless_the_answer_says_no(
    gateway, raw_upstream, answer: bytes, connections: int
) -> None:
    async with raw_upstream(Requests(*[answer] * 3)) as upstream:
        gateway.forward_to(upstream.url)
        for _ in range(3):
            assert body_of(await gateway.exchange(post(b"{}"))) == b"ok"
    assert upstream.connections == connections


async def test_an_answer_of_http_1_0_ends_with_its_connection(gateway, raw_upstream) -> None:
    async with raw_upstream(Requests(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", then_close=True)) as upstream:
        gateway.forward_to(upstream.url)
        answer = await gateway.exchange(GET)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), "each hop speaks its own version"
    assert body_of(answer) == b"until the end"


async def test_a_client_that_asks_to_close_does_not_close_the_connection_upstream(
    gateway, raw_upstream
) -> None:
    async with raw_upstream(Requests(OK, OK)) as upstream:
        gateway.forward_to(upstream.url)
        for _ in range(2):
            assert b"connection: close" in await gateway.exchange(GET)
    assert upstream.connections == 1


@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "in chunks"])
async def test_a_call_on_a_connection_that_closes_at_that_moment_is_sent_once(
    gateway, raw_upstream, chunked: bool
) -> None:
    """Who repeated it might pay for it twice. The upstream may have served it, and so it may have cost."""
    heads = 0

    async def answer_one(reader, writer) -> None:
        nonlocal heads
        for answer in (OK, b""):
            await reader.readuntil(b"{}")
            heads += 1
            writer.write(answer)

    async with raw_upstream(answer_one) as upstream:
        gateway.forward_to(upstream.url)
        await gateway.exchange(post(b"{}"))
        answer = await gateway.exchange(post(b"{}", chunked=chunked))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert (heads, upstream.connections) == (2, 1)
    assert (await gateway.last_call()).progress is Progress.DISPATCHED


async def test_aiohttp_repeats_a_read_and_httpcore_does_not(gateway, raw_upstream) -> None:
    """As the page on HTTP says: a read costs nothing."""
    connections: list[object] = []

    async def break_off_once(reader, writer) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        if len(connections) == 1:
            await reader.readuntil(b"\r\n\r\n")

    async with raw_upstream(break_off_once) as upstream:
        gateway.forward_to(upstream.url)
        await gateway.exchange(GET)
        answer = await gateway.exchange(GET)
    assert answer.startswith(b"HTTP/1.1 200 " if gateway.library == "aiohttp" else b"HTTP/1.1 502 ")


async def test_an_upload_is_never_repeated_in_part(gateway, raw_upstream) -> None:
    """aiohttp repeats a PUT on a connection that was kept, but not what has been read of its body."""
    received = b""

    async def break_off(reader, writer) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        received += await reader.readuntil(b"first")

    async with raw_upstream(break_off) as upstream:
        gateway.forward_to(upstream.url)
        await gateway.exchange(GET)
        async with gateway.connection() as (reader, writer):
            writer.write(b"PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 11\r\n\r\nfirst")
            with contextlib.suppress(ConnectionError):
                while upstream.connections == 1 and b"first" not in received:
                    await asyncio.sleep(0.01)
                writer.write(b"second")
            assert (await reader.read()).startswith(b"HTTP/1.1 502 ")
    assert b"second" not in received
    assert upstream.connections == 1


async def test_a_connection_that_has_closed_meanwhile_is_not_used(gateway, raw_upstream) -> None:
    async with raw_upstream(Requests(OK, OK, then_close=True)) as upstream:
        gateway.forward_to(upstream.url)
        for _ in range(2):
            assert body_of(await gateway.exchange(post(b"{}"))) == b"ok"
            await asyncio.sleep(0.05)  # for the other side's FIN
    assert upstream.connections == 2


@pytest.mark.parametrize(
    "more",
    [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"?"],
    ids=["another answer", "a farewell", "anything"],
)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
async def test_what_nobody_asked_for_is_nobodys_answer(
    gateway, raw_upstream, more: bytes, late: bool
) -> None:
    async def say_more(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if upstream.connections > 1:
            writer.write(OK)
            return
        writer.write(OK if late else OK + more)
        await answered.wait()
        writer.write(more if late else b"")
        await reader.read()

    answered = asyncio.Event()
    async with raw_upstream(say_more) as upstream:
        gateway.forward_to(upstream.url)
        first = await gateway.exchange(GET)
        assert body_of(first) == b"ok" or first.startswith(b"HTTP/1.1 502 ")
        answered.set()
        await asyncio.sleep(0.05)  # for it to arrive
        assert body_of(await gateway.exchange(GET)) == b"ok"
    assert upstream.connections == 2


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified", b"200 OK"])
async def test_a_body_where_there_can_be_none_is_not_the_next_answer(
    gateway, raw_upstream, status: bytes
) -> None:
    bodiless = b"HTTP/1.1 " + status + b"\r\ncontent-length: 4\r\n\r\nevil"
    method = b"HEAD" if status == b"200 OK" else b"GET"
    async with raw_upstream(Requests(bodiless, OK)) as upstream:
        gateway.forward_to(upstream.url)
        assert b"evil" not in await gateway.exchange(GET.replace(b"GET", method))
        assert body_of(await gateway.exchange(GET)) == b"ok"


# Bodies and codings -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "in chunks"])
@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_000])
async def test_bodies_arrive_as_they_were_sent_whatever_their_framing(
    gateway, raw_upstream, chunked: bool, size: int
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    framed = post(body, chunked=True) if chunked and size else post(body)
    answer = b"HTTP/1.1 200 OK\r\n" + framed.partition(b"connection: close\r\n")[2]
    requests = Requests(answer, answer)
    async with raw_upstream(requests) as upstream:
        gateway.forward_to(upstream.url)
        for _ in range(2):
            assert body_of(await gateway.exchange(framed)) == body
    assert requests.bodies == [body, body]
    assert upstream.connections == 1


PACKED = {
    b"gzip": gzip.compress(b"hello " * 100),
    b"deflate": zlib.compress(b"hello " * 100),
    b"br": b"\x1b\x57\x02\xf8\x25\x02\xa2\xa2\x44\x25\xb2\x01",  # opaque here, as to the gateway
    b"zstd": b"\x28\xb5\x2f\xfd\x04\x58\x11\x00\x00hello",
    b"gzip, br": b"\x0b\x02\x80",
}


@pytest.mark.parametrize("coding", PACKED, ids=bytes.decode)
async def test_an_encoded_answer_passes_byte_for_byte(gateway, raw_upstream, coding: bytes) -> None:
    packed = PACKED[coding]
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (coding, len(packed))
    async with raw_upstream(head + packed) as upstream:
        gateway.forward_to(upstream.url)
        answer = await gateway.exchange(GET)
    assert b"content-encoding: " + coding in answer
    assert body_of(answer) == packed


async def test_trailers_and_chunk_extensions_of_an_answer_end_here(gateway, raw_upstream) -> None:
    """No server that runs the gateway could send them on; they are never made headers."""
    chunked = (
        b"HTTP/1.1 200 OK\r\ntrailer: x-checksum\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2;a=b\r\nok\r\n0\r\nx-checksum: 1\r\nset-cookie: a=b\r\n\r\n"
    )
    async with raw_upstream(Requests(chunked, OK)) as upstream:
        gateway.forward_to(upstream.url)
        answer = await gateway.exchange(GET)
        assert body_of(await gateway.exchange(GET)) == b"ok"
    assert answer == (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    )
    assert upstream.connections == 1


async def test_a_hundred_headers_keep_their_order(gateway, raw_upstream) -> None:
    cookies = b"".join(b"set-cookie: c%d=%d\r\n" % (n, n % 7) for n in range(100))
    async with raw_upstream(b"HTTP/1.1 200 OK\r\n" + cookies + b"content-length: 0\r\n\r\n") as upstream:
        gateway.forward_to(upstream.url)
        assert cookies in await gateway.exchange(GET)


# Interim and early answers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n" * 3,
    ],
    ids=["100", "102", "three of 103"],
)
async def test_interim_answers_are_waited_through(gateway, raw_upstream, interim: bytes) -> None:
    async with raw_upstream(Requests(interim + OK, OK)) as upstream:
        gateway.forward_to(upstream.url)
        for _ in range(2):
            answer = await gateway.exchange(post(b"{}"))
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"link" not in answer
    assert upstream.connections == 1


async def test_an_expectation_is_answered_here_and_not_sent_on(gateway, raw_upstream) -> None:
    requests = Requests(OK)
    async with raw_upstream(requests) as upstream:
        gateway.forward_to(upstream.url)
        async with gateway.connection() as (reader, writer):
            writer.write(
                b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n"
                b"content-length: 5\r\n\r\n"
            )
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hello")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    assert requests.bodies == [b"hello"]


EARLY = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge"


async def test_after_an_early_answer_the_rest_of_the_upload_is_no_request(gateway, raw_upstream) -> None:
    """The connection upstream is given up; the client's serves the next request."""
    seen: list[bytes] = []

    async def answer_early(reader, writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.split(b" ")[0])
        writer.write(EARLY if head.startswith(b"POST") else OK)
        await writer.drain()
        while more := await reader.read(65536):
            if more.startswith((b"GET", b"POST")):
                seen.append(b"on the same connection")

    if gateway.library == "httpx":
        pytest.skip("httpcore looks at the answer when the request is sent: see httpx_client.py")
    async with raw_upstream(answer_early) as upstream:
        gateway.forward_to(upstream.url)
        async with gateway.connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + bytes(100_000))
            assert (await reader.readuntil(b"large")).startswith(b"HTTP/1.1 413 ")
            writer.write(bytes(100_000) + GET)
            assert (await reader.read()).endswith(b"ok")
    assert seen == [b"POST", b"GET"]
    assert upstream.connections == 2


async def test_an_early_answer_arrives_although_the_upstream_hangs_up_on_the_upload(
    gateway, raw_upstream
) -> None:
    async def answer_and_close(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EARLY)
        writer.write_eof()
        while await reader.read(65536):  # a reset would take the answer with it
            pass

    async with raw_upstream(answer_and_close) as upstream:
        gateway.forward_to(upstream.url)
        async with gateway.connection() as (reader, writer):
            writer.write(post(bytes(3_000_000)).replace(b"connection: close", b"x-a: b"))
            answer = await asyncio.wait_for(reader.readuntil(b"large"), 5)
    assert answer.startswith(b"HTTP/1.1 413 ")
