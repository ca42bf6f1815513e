"""Processes that use an embedded store, and words for what a test does to a store and sees of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis

USER = """
import sys, pathlib
from govmiddleware.ledger.embedded import EmbeddedStore
store = EmbeddedStore(pathlib.Path(sys.argv[1]))
print(store.open(), flush=True)
sys.stdin.read()
store.close()
"""


class User:
    """A process of its own that uses the store from its birth on, until its stdin is closed."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        _, errors = self.process.communicate(timeout=10)
        assert errors == ""

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        self.process.communicate(timeout=10)


def within(seconds: float, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def processes() -> dict[int, tuple[int, str]]:
    """The parent and the command line of all living processes (not of zombies)."""
    lines = subprocess.check_output(["ps", "-axww", "-o", "pid=,ppid=,stat=,args="], text=True).splitlines()
    found = (line.split(maxsplit=3) for line in lines)
    return {int(row[0]): (int(row[1]), row[3]) for row in found if len(row) == 4 and row[2][0] != "Z"}


def watchdogs(below: Path) -> list[int]:
    return [
        p for p, (_, args) in processes().items() if "embedded_watchdog.py" in args and str(below) in args
    ]


def servers(below: Path) -> list[int]:
    """Found by the directory they work in, even one that was deleted; Linux only."""
    found = []
    for process, (_, args) in processes().items():
        if "valkey-server" in args and "embedded_watchdog.py" not in args:
            try:
                works_in = os.readlink(f"/proc/{process}/cwd")
            except OSError:
                continue
            if works_in.startswith(str(below)):
                found.append(process)
    return found


def client(url: str) -> Redis:
    return Redis.from_url(url, decode_responses=True)


def server_pid(url: str) -> int:
    with client(url) as redis:
        return int(redis.info("server")["process_id"])


def stays(server: int, url: str) -> bool:
    """It answers for longer than a watchdog that believes it unused would let it live."""
    deadline = time.monotonic() + 0.8
    while time.monotonic() < deadline:
        if server_pid(url) != server:
            return False
    return True


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    within(5, lambda: pid not in processes())


def sync(url: str) -> None:
    """From here on a kill loses nothing: while a sync is under way, it may."""
    with client(url) as redis:
        redis.incr("synced")  # WAITAOF waits for what its own connection wrote
        assert redis.waitaof(1, 0, 5000)[0] == 1


def write(url: str, value: str) -> None:
    with client(url) as redis:
        redis.set("kept", value)
    sync(url)


def read(url: str) -> str | None:
    with client(url) as redis:
        return redis.get("kept")
