"""Files of 100 MB go through a real sidecar in both directions while its memory stays flat."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.sidecar.conftest import SECRET
from tests.sidecar.processes import serve_processes
from tests.sidecar.waiting import settled, until

from govmiddleware.core.ids import hash_api_token

MEGABYTE = 1_000_000
SIZE = 100 * MEGABYTE
MOST_GROWTH = 30 * MEGABYTE
PIECE = bytes(range(250)) * 200

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")


@dataclass
class Files:
    """An upstream that takes files and gives them, and how many bytes it has."""

    url: str = ""
    taken: int = 0
    given: int = 0


@contextmanager
def files_upstream() -> Iterator[Files]:
    files = Files()

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while (line := self.rfile.readline()) != b"":
                head = b""
                while (header := self.rfile.readline()) != b"\r\n":
                    head += header.lower()
                (self._take if line.startswith(b"POST") else self._give)(head)

        def _take(self, head: bytes) -> None:
            length = re.search(rb"content-length: (\d+)", head)
            if length is not None:
                self._read(int(length[1]))
            else:
                while size := int(self.rfile.readline(), 16):
                    self._read(size)
                    self.rfile.readline()
                self.rfile.readline()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        def _read(self, left: int) -> None:
            while left:
                piece = self.rfile.read(min(left, 65536))
                left -= len(piece)
                files.taken += len(piece)

        def _give(self, head: bytes) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            for _ in range(SIZE // len(PIECE)):
                self.wfile.write(PIECE)
                files.given += len(PIECE)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as server:
        files.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield files
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Sidecar:
    """A sidecar process between a raw client and the files."""

    address: tuple[str, int]
    pid: int
    files: Files

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=30) as connection:
            yield connection

    @contextmanager
    def memory_stays_flat(self) -> Iterator[None]:
        """While the block runs, the resident memory may not peak far above what it is now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the peak is now what is resident
        before = self._resident("VmRSS")
        yield
        assert self._resident("VmHWM") - before < MOST_GROWTH

    def _resident(self, which: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{which}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


@pytest.fixture(scope="module", params=["aiohttp", "httpx"])
def sidecar(
    request: pytest.FixtureRequest, gov_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    config: Path = tmp_path_factory.mktemp("files") / "govmiddleware.toml"
    without = "aiohttp" if request.param == "httpx" else None
    with files_upstream() as files:
        config.write_text(
            f"""
            upstream = "{files.url}"
            redis_url = "{gov_server}"
            journal_url = "sqlite:///{config.with_name("journal.sqlite")}"
            unmetered_routes = "forward"
            [[api_tokens]]
            name = "ci"
            workspace = "acme"
            sha256 = "{hash_api_token(SECRET)}"
            """
        )
        with serve_processes(config, without=without) as [process]:
            host, port = process.url.removeprefix("http://").split(":")
            yield Sidecar((host, int(port)), process.process.pid, files)


def head(line: str, *headers: str) -> bytes:
    lines = [line, "Host: gateway", f"Authorization: Bearer {SECRET}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("framing", [f"Content-Length: {SIZE}", "Transfer-Encoding: chunked"])
def test_a_file_goes_up(sidecar: Sidecar, framing: str) -> None:
    sidecar.files.taken = 0
    chunk = PIECE if "Length" in framing else b"%x\r\n%s\r\n" % (len(PIECE), PIECE)
    with sidecar.memory_stays_flat(), sidecar.connection() as connection:
        connection.sendall(head("POST /v1/files HTTP/1.1", framing))
        for _ in range(SIZE // len(PIECE)):
            connection.sendall(chunk)
        if "chunked" in framing:
            connection.sendall(b"0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert sidecar.files.taken == SIZE


def test_a_file_comes_down_no_faster_than_it_is_read(sidecar: Sidecar) -> None:
    sidecar.files.given = 0
    received = 0
    with sidecar.memory_stays_flat(), sidecar.connection() as connection:
        connection.sendall(head("GET /v1/files/x/content HTTP/1.1"))
        held = settled(lambda: sidecar.files.given)
        assert 0 < held < SIZE / 2, "what sockets hold on the way; the rest waits at the upstream"
        while piece := connection.recv(MEGABYTE):
            received += len(piece)
    assert SIZE < received < SIZE + 1000
    until(lambda: sidecar.files.given == SIZE)
