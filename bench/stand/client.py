"""A light client, for what wrk does not measure: when an answer's first byte comes, and bodies that differ.

    python -m stand.client URL WORKLOAD CONNECTIONS SECONDS [NAME:VALUE ...]

Keeps so many connections busy for so many seconds, each with one request at a time; those that have begun are finished.
Prints one line of JSON. Times count from the request to the first byte of the answer's body, and to its last.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import count
from secrets import randbelow
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import uvloop

from stand.workloads import MARK, WORKLOADS, Workload

LAST_CHUNK = b"\r\n0\r\n\r\n"


class Connection(asyncio.Protocol):
    """Sends one request after the other."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.requests = client.requests()
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        """The next request, unless the time is over."""
        if perf_counter() >= self.client.deadline:
            self.transport.close()
            return
        request = next(self.requests)
        self.head: bytes | None = b""
        self.first = 0.0
        self.tail = b""
        self.missing = -1
        self.began = perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self.head is not None:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self.head[:end].lower(), self.head[end + 2 :]  # with one CRLF, as LAST_CHUNK begins
            self.head = None
            self.client.errors += not head.startswith(b"http/1.1 200")
            _, _, length = head.partition(b"content-length:")
            if length:
                self.missing = int(length.split(b"\r\n")[0]) + 2
        if not self.first and len(data) > 2:
            self.first = perf_counter()
        self.client.bytes += len(data)
        if self.missing >= 0:
            self.missing -= len(data)
            ended = self.missing == 0
        else:
            self.tail = (self.tail + data)[-len(LAST_CHUNK) :]
            ended = self.tail == LAST_CHUNK
        if ended:
            self.client.firsts.append(self.first - self.began)
            self.client.wholes.append(perf_counter() - self.began)
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self.client.errors += perf_counter() < self.client.deadline
        self.done.set_result(None)


class Client:
    """What all connections share."""

    def __init__(self, url: str, workload: Workload, headers: list[str]) -> None:
        self.origin = urlsplit(url)
        self.workload = workload
        lines = [f"POST {workload.path} HTTP/1.1", f"host: {self.origin.netloc}", *headers]
        self.start = "\r\n".join(lines).encode() + b"\r\ncontent-length: "
        self.marks = count(randbelow(10**8))  # other runs have counted other texts
        self.firsts: list[float] = []
        self.wholes: list[float] = []
        self.errors = 0
        self.bytes = 0

    def requests(self) -> Iterator[bytes]:
        """Those of one connection, without end."""
        while True:
            mark = b"%08d" % (next(self.marks) % 10**8)
            for body in self.workload.bodies:
                marked = body.replace(MARK, mark)
                yield b"%b%d\r\n\r\n%b" % (self.start, len(marked), marked)

    async def run(self, connections: int, seconds: float) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        began = perf_counter()
        self.deadline = began + seconds
        opened = [
            await loop.create_connection(lambda: Connection(self), self.origin.hostname, self.origin.port)
            for _ in range(connections)
        ]
        await asyncio.gather(*(connection.done for _, connection in opened))
        return {
            "requests": len(self.wholes),
            "seconds": perf_counter() - began,
            "errors": self.errors,
            "bytes": self.bytes,
            "p50_ms": percentile(self.wholes, 50),
            "p99_ms": percentile(self.wholes, 99),
            "first_p50_ms": percentile(self.firsts, 50),
            "first_p99_ms": percentile(self.firsts, 99),
        }


def percentile(seconds: list[float], rank: int) -> float:
    """In ms; 0 where nothing was measured."""
    ordered = sorted(seconds)
    return 1e3 * ordered[min(len(ordered) - 1, len(ordered) * rank // 100)] if ordered else 0.0


def main(url: str, workload: str, connections: str, seconds: str, *headers: str) -> None:
    client = Client(url, WORKLOADS[workload](), list(headers))
    print(json.dumps(uvloop.run(client.run(int(connections), float(seconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
