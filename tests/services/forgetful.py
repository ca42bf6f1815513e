"""A real store that crashes, and comes back without the last of what it had acknowledged."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from redis import ConnectionError, Redis

from govmiddleware.ledger.embedded import EmbeddedStore


class ForgetfulStore:
    """An embedded store whose append-only file is cut, as a disk that was slow to sync leaves it."""

    def __init__(self, data_dir: Path) -> None:
        self._store = EmbeddedStore(data_dir)
        self._file = data_dir / "valkey" / "appendonlydir" / "appendonly.aof.1.incr.aof"
        self.url = self._store.url
        self._open()
        self._remembered = 0

    def remember(self) -> None:
        """What is acknowledged by now, the next `crash(forget=True)` leaves."""
        self._remembered = self._file.stat().st_size

    def crash(self, *, forget: bool) -> None:
        """`kill -9`, and another run."""
        with Redis.from_url(self.url) as redis:
            server = int(redis.info("server")["process_id"])
            os.kill(server, signal.SIGKILL)
            _until_silent(redis)
        if forget:
            os.truncate(self._file, self._remembered)
        self._open()

    def _open(self) -> None:
        with Redis.from_url(self._store.open()) as redis:
            # Each write is in the file before its answer, for no sync is ever under way.
            redis.config_set("appendfsync", "no")

    def close(self) -> None:
        self._store.close()


def _until_silent(redis: Redis) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            redis.ping()
        except ConnectionError:
            return
    raise AssertionError("it was not killed")
