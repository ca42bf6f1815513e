"""An upstream on raw sockets that takes nothing but well-formed requests, and keeps each as it came."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedIOBase

PROMPT_TOKENS, COMPLETION_TOKENS = 7, 5

_ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "gpt-4o-mini",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}
        ],
        "data": [],
        "usage": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS},
    }
).encode()

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_HEADER = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ((?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?)"
)


@dataclass(frozen=True, slots=True)
class Received:
    """One request; header names in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found == name]


@dataclass
class RecordingUpstream:
    """What arrived, in order, and what of it was no request that every server reads the same."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)


class NotWellFormed(Exception):
    pass


@contextmanager
def recording_upstream() -> Iterator[RecordingUpstream]:
    """Serve on a free port; every request is answered as a chat completion is."""
    upstream = RecordingUpstream()

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                while (received := _read(self.rfile)) is not None:
                    upstream.requests.append(received)
                    body = b"" if received.method == "HEAD" else _ANSWER
                    self.wfile.write(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                        b"Content-Length: %d\r\n\r\n%s" % (len(_ANSWER), body)
                    )
            except NotWellFormed as problem:
                upstream.malformed.append(str(problem))
            except ConnectionError:
                pass  # the gateway left

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as server:
        upstream.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown()
            thread.join()


def _read(stream: BufferedIOBase) -> Received | None:
    """The next request; None where the connection ended before one. Raises NotWellFormed."""
    lines: list[bytes] = []
    while line := stream.readline():
        if not line.endswith(b"\r\n"):
            raise NotWellFormed(f"a line that does not end in CRLF: {line!r}")
        if line == b"\r\n":
            return _parse(lines, stream)
        lines.append(line[:-2])
    if lines:
        raise NotWellFormed(f"half a head: {lines}")
    return None


def _parse(lines: list[bytes], stream: BufferedIOBase) -> Received:
    start = _REQUEST_LINE.fullmatch(lines[0]) if lines else None
    if start is None:
        raise NotWellFormed(f"a request line: {lines[:1]}")
    headers = []
    for line in lines[1:]:
        if (header := _HEADER.fullmatch(line)) is None:
            raise NotWellFormed(f"a header: {line!r}")
        headers.append((header[1].decode().lower(), header[2].decode("latin-1")))
    received = Received(start[1].decode(), start[2].decode(), headers, b"")
    return Received(received.method, received.target, headers, _body(received, stream))


def _body(received: Received, stream: BufferedIOBase) -> bytes:
    lengths, codings = received.values("content-length"), received.values("transfer-encoding")
    if len(received.values("host")) != 1 or len(lengths) + len(codings) > 1:
        raise NotWellFormed(f"hosts, lengths or codings: {received.headers}")
    if codings:
        if codings != ["chunked"]:
            raise NotWellFormed(f"a coding: {codings}")
        return b"".join(_chunks(stream))
    if not lengths:
        return b""
    if not re.fullmatch("0|[1-9][0-9]{0,9}", lengths[0]):
        raise NotWellFormed(f"a length: {lengths}")
    return _exactly(stream, int(lengths[0]))


def _chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    while True:
        line = stream.readline()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}\r\n", line):
            raise NotWellFormed(f"a chunk's size: {line!r}")
        size = int(line, 16)
        if size == 0:
            if stream.readline() != b"\r\n":
                raise NotWellFormed("trailers")
            return
        yield _exactly(stream, size)
        if stream.readline() != b"\r\n":
            raise NotWellFormed("a chunk of another size than it says")


def _exactly(stream: BufferedIOBase, size: int) -> bytes:
    body = stream.read(size)
    if len(body) < size:
        raise NotWellFormed(f"{len(body)} bytes of a body of {size}")
    return body
