"""The server's answers: what of them leaves in one write."""

from __future__ import annotations

import contextlib
import gc
import logging
import select
import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from govmiddleware.cli.http_protocol import HttpProtocol
from govmiddleware.testing.bell import Gate
from govmiddleware.testing.server import RunningServer, serve_in_thread

LENGTH = (b"Content-Length", b"5")
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class App:
    """Sends its messages one by one, each when the test says so."""

    def __init__(self, *messages: Message) -> None:
        self._messages = messages
        self._gate = Gate()
        self._passed = threading.Semaphore(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self._messages:
            await self._gate.passage()
            await send(message)
            self._passed.release()
        await self._gate.passage()
        self._passed.release()

    def go(self) -> None:
        """Returns when the next message was sent, or the app is done."""
        self._gate.let(1)
        assert self._passed.acquire(timeout=10)


def head(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(chunk: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


@contextlib.contextmanager
def asked(app: ASGIApp, request: bytes = GET) -> Iterator[socket.socket]:
    """A connection on which a request was sent."""
    with serving(app) as server, socket.create_connection((server.host, server.port), timeout=10) as client:
        client.sendall(request)
        yield client


def serving(app: ASGIApp) -> contextlib.AbstractContextManager[RunningServer]:
    return serve_in_thread(app, lifespan="off", http=HttpProtocol, loop="uvloop")


def has_come(client: socket.socket) -> bytes:
    """Without waiting: what the server has written is here."""
    readable, _, _ = select.select([client], [], [], 0)
    return client.recv(65536) if readable else b""


def test_a_head_with_a_length_leaves_with_the_first_of_its_body() -> None:
    app = App(head(LENGTH), body(b"he", more=True), body(b"llo"))
    with asked(app) as client:
        app.go()
        assert has_come(client) == b""
        app.go()
        assert has_come(client) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"
        app.go()
        assert has_come(client) == b"llo"


def test_the_head_of_a_stream_waits_for_nothing() -> None:
    app = App(head(), body(b"data: 1\n\n"))
    with asked(app) as client:
        app.go()
        assert has_come(client).endswith(b"transfer-encoding: chunked\r\n\r\n")


def test_a_head_that_no_body_follows_is_sent_before_the_connection_closes() -> None:
    app = App(head(LENGTH))
    with asked(app) as client:
        app.go()
        app.go()
        assert client.recv(65536) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
        assert client.recv(65536) == b""


def test_a_head_whose_client_has_left_goes_to_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(head(LENGTH))
        has_head.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()
        raise OSError("the app's own")

    log = logging.getLogger("uvicorn.error")  # as no other test has left it
    for name, value in {"handlers": [caplog.handler], "propagate": False, "disabled": False}.items():
        monkeypatch.setattr(log, name, value)
    caplog.set_level(logging.ERROR, log.name)
    has_head, left = threading.Event(), threading.Event()
    with serving(app) as server:
        with socket.create_connection((server.host, server.port)) as client:
            client.sendall(GET)
            assert has_head.wait(10)
        assert left.wait(10)
    gc.collect()  # a task that failed otherwise would say so
    assert [record.message for record in caplog.records] == ["Exception in ASGI application\n"]


def test_the_answer_to_head_is_its_head() -> None:
    app = App(head(LENGTH), body(b""))
    with asked(app, GET.replace(b"GET", b"HEAD")) as client:
        app.go()
        assert has_come(client) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


def test_a_client_is_told_to_continue_before_it_is_answered() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given = await receive()
        await send(head(LENGTH))
        await send(body(given["body"]))

    request = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    with asked(app, request) as client:
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert client.recv(65536) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def test_each_answer_of_a_connection_has_its_own_head() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(head(LENGTH))
        await send(body(b"hello"))

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    with asked(app, GET + GET) as client, client.makefile("rb") as reader:
        assert reader.read(2 * len(answer)) == 2 * answer


def test_a_handshake_for_a_websocket_is_left_to_the_protocol_of_websockets() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.close", "code": 1008})

    handshake = (
        b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with asked(app, GET.removesuffix(b"\r\n") + handshake) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 403 ")
