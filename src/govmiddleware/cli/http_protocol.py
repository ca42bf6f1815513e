"""The server's HTTP parser, and what RFC 9112 asks of a server beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from govmiddleware.upstream.client_side import ON_DISCONNECT

MAX_HEAD_BYTES = 65536
"""Of one request; as much as uvicorn allows with h11, which then answers 400 too."""

_LENGTH = b"\r\ncontent-length: "
"""As uvicorn writes it, whatever the letter case that the app has it in."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, which answers 400 to requests that others on the way could read as
    something else, or as two.

    llhttp refuses most of them. What it lets pass and this does not: any transfer coding but one
    `chunked` (RFC 9112, 6.1; nobody would decode it), any in HTTP/1.0, no host or several (3.2), other
    versions, CONNECT, and a head without end.

    It drops the trailers of requests, too. uvicorn 0.54 appends them to the headers, even while the app
    runs, so that a client could smuggle `x-gov-user` or `x-forwarded-for` past a proxy that sets them.
    RFC 9110, 6.5.1: a trailer field must not be merged into the header section.

    And it says when the client leaves, which takes no task that waits for it: see `ON_DISCONNECT`. The head of an
    answer leaves with the first of its body: see `_Answer`.
    """

    _unparsed = 0
    """Bytes since the parser last made something of them: of a head or of trailers that are not whole."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parser = _Parser(self)  # type: ignore[assignment]
        self._is_lost = False
        self._disconnected: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        self._unparsed = 0
        self._check()
        if not self.ignores_upgrade:
            super().on_headers_complete()
            self.scope["extensions"] = {ON_DISCONNECT: {"notify": self._on_disconnect}}
            self.headers = list(self.headers)  # what still comes is put there; the app has the list before it
            if not self.parser.should_upgrade():  # to a WebSocket, which has no cycle here
                self.cycle.transport = _Answer(self.transport, self.scope["method"])  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        if not self.ignores_upgrade:
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._is_lost = True
        self._on_disconnect(self._disconnected)

    def _on_disconnect(self, disconnected: Callable[[], None] | None) -> None:
        """For the request that runs: a connection has one at a time."""
        self._disconnected = disconnected
        if disconnected is not None:
            if self._is_lost:
                disconnected()
            else:
                self.flow.resume_reading()  # which may have been paused behind the body; it hides the end

    @property
    def ignores_upgrade(self) -> bool:
        """Whether the request asks for an upgrade that there is none to."""
        return bool(self.parser.should_upgrade()) and not self._should_upgrade()

    def head_without_upgrade(self) -> bytes:
        """The head of the request, so that it asks for none."""
        line = b"%s %s HTTP/%s\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        headers = (b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return line + b"".join(headers) + b"\r\n"

    def _check(self) -> None:
        """Raises ValueError, for which uvicorn answers 400."""
        version, method = self.parser.get_http_version(), self.parser.get_method()
        if version not in ("1.0", "1.1") or method == b"CONNECT":
            raise ValueError("another version of HTTP, or a tunnel")
        size, hosts, codings = len(self.url), 0, []
        for index, (name, value) in enumerate(self.headers):
            size += len(name) + len(value)
            if value[-1:] in (b" ", b"\t"):  # RFC 9112, 5.1: it is no part of the value
                value = value.rstrip(b" \t")
                self.headers[index] = name, value
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings.append(value.lower())
            elif name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
        if hosts > 1 or (not hosts and version == "1.1"):
            raise ValueError("no host, or several")
        if codings and (codings != [b"chunked"] or version == "1.0"):
            raise ValueError("a transfer coding that nobody would decode")
        if size > MAX_HEAD_BYTES:
            raise ValueError("a head that is too large")
        if method != b"GET" and self.parser.should_upgrade() and self._should_upgrade():
            raise ValueError("a WebSocket that does not begin with GET")  # uvicorn would never answer


class _Answer:
    """The transport, for one answer. The head of one whose length is known waits for the first of its body, and leaves in
    one write with it.

    ASGI asks servers to have every head wait ("Response Start"); uvicorn does not, and of a stream nobody knows how long
    its first event takes. A call is settled before the last of its body is sent, so that the two come in two turns of the
    event loop, and uvloop writes each at once.
    """

    __slots__ = ("_head", "_head_waits", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, method: str) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._head_waits = method != "HEAD"  # which has no body to wait for
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        elif self._head_waits:
            self._head_waits = False
            if _LENGTH in data:
                self._head = data
            else:
                self._transport.write(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head is not None and not self.is_closing():
            self._transport.write(self._head)
        self._head = None
        self._transport.close()


class _Parser:
    """httptools' parser, which reads on where an upgrade is ignored, such as that to h2c, for which Java's
    HttpClient asks.

    httptools leaves the body of such a request alone: uvicorn drops what has arrived of it, and would take
    what arrives later for the next request.
    """

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol = protocol
        self._renew()

    def feed_data(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self._protocol.ignores_upgrade:
                    raise
                data = self._protocol.head_without_upgrade() + data[upgrade.args[0] :]
                self._renew()  # the old one may take the connection for closed

    def _renew(self) -> None:
        self._parser = parser = httptools.HttpRequestParser(self._protocol)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self.get_method = parser.get_method
        self.get_http_version = parser.get_http_version
        self.should_keep_alive = parser.should_keep_alive
        self.should_upgrade = parser.should_upgrade
