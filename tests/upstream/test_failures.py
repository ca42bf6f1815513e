"""What an upstream fails to answer is answered for it; what it breaks off stays broken."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Iterator

import httpx
import pytest

from govmiddleware.core.call import Call, Progress
from govmiddleware.core.ports import RefusalResponse
from govmiddleware.core.refusals import InvalidRequest, Refusal, UpstreamFailed, UpstreamTooSlow
from govmiddleware.errors import MissingPredecessor
from govmiddleware.protocols.aws_frames import write_frame
from govmiddleware.testing.provider import Script
from govmiddleware.upstream import Forwarder, open_client
from govmiddleware.upstream.event_stream import EventStreamEnd

SOON = 0.2
"""Seconds: a timeout that a test waits for."""

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def refused_with_502(gateway, http, progress: Progress) -> None:
    answer = await http.post("/v1/chat/completions", json={})
    call = await gateway.last_call()
    assert answer.status_code == call.status == 502
    assert answer.content.startswith(b"upstream_unreachable: The ")
    assert b"127.0.0.1" not in answer.content, "an address is nobody's business"
    assert isinstance(call.refusal, UpstreamFailed)
    assert call.progress is progress


async def test_a_refused_connection_is_a_502_that_cost_nothing(gateway, http, closed_port) -> None:
    gateway.forward_to(closed_port)
    await refused_with_502(gateway, http, Progress.UNREACHED)


async def test_an_unknown_host_is_a_502_that_cost_nothing(gateway, http) -> None:
    gateway.forward_to("http://nowhere.invalid")
    await refused_with_502(gateway, http, Progress.UNREACHED)


@pytest.fixture
def deaf() -> Iterator[str]:
    """The URL of a server that takes no connection and refuses none."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # whose queue of one or two the others fill; Linux then drops further SYNs
        for other in (first, second):
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_connection_that_nobody_accepts_is_a_502_that_cost_nothing(gateway, http, deaf: str) -> None:
    gateway.forward_to(deaf, connect_timeout=SOON)
    await refused_with_502(gateway, http, Progress.UNREACHED)


async def test_a_client_that_leaves_while_we_connect_has_cost_nothing(gateway, deaf: str) -> None:
    gateway.forward_to(deaf, connect_timeout=30)
    async with gateway.connection() as (_, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")
        async with asyncio.timeout(5):
            while not (gateway.calls and gateway.calls[0].progress is not Progress.NOT_DISPATCHED):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)  # by now it connects, which nothing shows
    await gateway.bell.until(lambda: gateway.ended == 1)
    assert gateway.calls[0].progress is Progress.UNREACHED


async def test_an_upstream_without_tls_behind_an_https_url_is_a_502_that_cost_nothing(
    gateway, http, raw_upstream
) -> None:
    async def speak_http(reader, writer) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with raw_upstream(speak_http) as upstream:
        gateway.forward_to(upstream.url.replace("http:", "https:"))
        await refused_with_502(gateway, http, Progress.UNREACHED)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: 1\r\n"])
async def test_an_upstream_that_closes_before_an_answer_is_a_502_that_may_have_cost(
    gateway, http, raw_upstream, answer: bytes
) -> None:
    async with raw_upstream(answer) as upstream:
        gateway.forward_to(upstream.url)
        await refused_with_502(gateway, http, Progress.DISPATCHED)


async def test_no_answer_in_time_is_a_504_that_may_have_cost(
    gateway, http, provider, upstream_server
) -> None:
    gateway.forward_to(upstream_server.url, first_byte_timeout=SOON)
    provider.script = Script(never_answers=True)
    answer = await http.post("/v1/chat/completions", json={})
    call = await gateway.last_call()
    assert answer.status_code == call.status == 504
    assert answer.content == b"upstream_timeout: The upstream did not answer in time."
    assert isinstance(call.refusal, UpstreamTooSlow)
    assert call.progress is Progress.DISPATCHED
    await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)


async def test_time_for_the_first_byte_runs_from_the_last_byte_of_the_request(gateway, raw_upstream) -> None:
    """A client that uploads for longer than the timeout is not cut off."""

    async def read_all(reader, writer) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(JSON + b"content-length: 2\r\n\r\n{}")

    async with raw_upstream(read_all) as upstream:
        gateway.forward_to(upstream.url, first_byte_timeout=SOON, idle_timeout=SOON)
        async with gateway.connection() as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + CHUNKED)
            for _ in range(2):
                await asyncio.sleep(SOON * 1.5)  # the client's slowness is what is tested
                writer.write(chunk(b"x"))
            writer.write(b"0\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")


async def test_an_upload_that_the_upstream_stops_reading_is_a_504(gateway, http, raw_upstream) -> None:
    async def read_no_body(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.get_running_loop().create_future()

    async with raw_upstream(read_no_body) as upstream:
        gateway.forward_to(upstream.url, idle_timeout=SOON)
        answer = await http.post("/", content=bytes(20_000_000))
    assert answer.status_code == 504
    assert (await gateway.last_call()).progress is Progress.DISPATCHED


class TestAnAnswerThatBreaksOff:
    """Never ends as if it were whole."""

    @pytest.mark.parametrize(
        "answer",
        [
            JSON + b"content-length: 10\r\n\r\n{",
            JSON + CHUNKED + chunk(b"{"),
            JSON + CHUNKED + b"5\r\n{",
            EVENTS + CHUNKED + chunk(b"data: ha"),
            EVENTS + b"content-length: 99\r\n\r\ndata: 1\n\n",
            EVENTS + b"content-encoding: gzip\r\n" + CHUNKED + chunk(gzip.compress(b"data: 1\n\n")),
        ],
    )
    async def test_is_broken_off_for_the_client(self, gateway, http, raw_upstream, answer: bytes) -> None:
        async with raw_upstream(answer) as upstream:
            gateway.forward_to(upstream.url)
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/")
        call = await gateway.last_call()
        assert (call.progress, call.status, call.refusal) == (Progress.ANSWERING, 200, None)

    @pytest.mark.parametrize("sent", [b"", b"data: 1\n\n", b": hello\r\n\r\n", b"data: 1\n\ndata: 2\r\r"])
    async def test_says_so_in_an_event_stream_that_broke_between_events(
        self, gateway, http, raw_upstream, sent: bytes
    ) -> None:
        answer = EVENTS + CHUNKED + (chunk(sent) if sent else b"")
        async with raw_upstream(answer) as upstream:
            gateway.forward_to(upstream.url)
            received = await http.get("/")
        assert received.content == sent + b"data: error upstream_unreachable\n\n"
        assert (await gateway.last_call()).progress is Progress.ANSWERING

    async def test_counts_as_broken_off_when_it_stalls(self, gateway, http, raw_upstream) -> None:
        async def stall(reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(EVENTS + CHUNKED + chunk(b"data: 1\n\n"))
            assert await reader.read() == b"", "the gateway hangs up"
            hung_up.set()

        hung_up = asyncio.Event()
        async with raw_upstream(stall) as upstream:
            gateway.forward_to(upstream.url, idle_timeout=SOON)
            received = await http.get("/")
            await asyncio.wait_for(hung_up.wait(), 5)
        assert received.content == b"data: 1\n\ndata: error upstream_timeout\n\n"
        assert (await gateway.last_call()).progress is Progress.ANSWERING

    async def test_leaves_one_error_in_the_log_and_no_address(
        self, gateway, http, raw_upstream, caplog
    ) -> None:
        async with raw_upstream(JSON + CHUNKED) as upstream:
            gateway.forward_to(upstream.url)
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/")
            await gateway.last_call()
        assert len(caplog.records) == 1
        assert "UpstreamUnreachable: The connection to the upstream broke off." in caplog.text
        assert upstream.url.removeprefix("http://") not in caplog.text
        assert caplog.text.count("Traceback") == 1, "what the HTTP client had to say is left out"


@pytest.mark.parametrize(
    ("header", "takes_an_event"),
    [
        ((b"content-encoding", b"identity"), True),
        ((b"content-encoding", b"gzip"), False),
        ((b"content-length", b"99"), False),
        ((b"content-type", b"text/plain"), False),
    ],
)
def test_only_a_plain_event_stream_can_be_added_to(header: tuple[bytes, bytes], takes_an_event: bool) -> None:
    end = EventStreamEnd([(b"content-type", b"Text/Event-Stream; charset=utf-8"), header])
    assert end.takes_an_event is takes_an_event


def test_a_stream_of_frames_can_be_added_to_between_two_of_them() -> None:
    frame = write_frame({":event-type": "x"}, b"{}")
    end = EventStreamEnd([(b"content-type", b"application/vnd.amazon.eventstream")])
    assert end.takes_an_event
    for place in range(0, len(frame), 7):
        end.feed(frame[place : place + 7])
        assert end.takes_an_event is (place + 7 >= len(frame))
    end.feed(b"\0" * 12)  # nothing that begins a frame
    assert not end.takes_an_event


@pytest.mark.parametrize("target", [b"@elsewhere/", b":1/", b"x"])
async def test_a_target_that_is_no_path_is_refused(tls, target: bytes) -> None:
    """Behind the base URL `http://upstream`, `@elsewhere/` would be another host."""

    class Protocol:
        key_in_query = False
        name = "openai.chat"

        def refusal(self, refusal: Refusal, request_id: str) -> RefusalResponse:
            return RefusalResponse(refusal.status, [], str(refusal).encode())

    call = Call("req_1", Protocol(), "GET", "/", model_call=True)
    client = open_client(connect_timeout=1, first_byte_timeout=1, idle_timeout=1, ssl_context=tls)
    forwarder = Forwarder(client=client, base_url="http://127.0.0.1")
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": target,
        "headers": [],
        "state": {"gov": call},
    }
    sent = []

    async def send(message) -> None:
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    await forwarder(scope, receive, send)
    assert [message.get("status") for message in sent] == [400, None]
    assert isinstance(call.refusal, InvalidRequest)
    assert call.progress is Progress.UNREACHED


async def test_a_forwarder_without_a_call_names_what_it_lacks(tls) -> None:
    client = open_client(connect_timeout=1, first_byte_timeout=1, idle_timeout=1, ssl_context=tls)
    forwarder = Forwarder(client=client, base_url="http://x")
    with pytest.raises(MissingPredecessor, match="Journal"):
        await forwarder({"type": "http"}, None, None)
