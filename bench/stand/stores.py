"""The store of each gateway: Debian's redis-server, or the Valkey of the extra `embedded`, set up as in production."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from govmiddleware.ledger.embedded import _find_binary
from stand.processes import Program, connect, free_port, running, wait_for

CLIENTS_COMMANDS = {"evalsha", "eval", "fcall", "xrange"}
"""The scripts, and what the drainer reads the journal with. All others are called by scripts, in whose time they are
counted already, or come once a second."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a server has done so far, by its own account.

    Attributes:
        commands: that clients sent.
        command_us: in these.
        cpu_us: of its main thread, the protocol and the append-only file included.
    """

    commands: int
    command_us: int
    cpu_us: float

    def since(self, before: Spent) -> Spent:
        return Spent(
            self.commands - before.commands,
            self.command_us - before.command_us,
            self.cpu_us - before.cpu_us,
        )


@dataclass(frozen=True, slots=True)
class Store:
    """A running server.

    Attributes:
        kind: name, version and allocator.
    """

    program: Program
    port: int
    kind: str

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True)

    def spent(self) -> Spent:
        with self.client() as client:
            info: dict[str, Any] = client.info("everything")
        counted = [info[f"cmdstat_{name}"] for name in CLIENTS_COMMANDS if f"cmdstat_{name}" in info]
        return Spent(
            commands=sum(row["calls"] for row in counted),
            command_us=sum(row["usec"] for row in counted),
            cpu_us=1e6 * (info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]),
        )

    def wait_until_at_rest(self) -> None:
        """Until it writes no new append-only file, as a child of it does after much was stored."""
        with self.client() as client:
            while client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.1)

    def used_memory(self) -> int:
        with self.client() as client:
            return int(client.info("memory")["used_memory"])


def binary() -> str:
    return shutil.which("redis-server") or str(_find_binary())


@contextmanager
def store(name: str, folder: Path, *, durable: bool = True) -> Iterator[Store]:
    """Args: durable: whether it keeps an append-only file, with an fsync every second."""
    home, port = folder / f"{name}-store", free_port()
    home.mkdir()
    command = [binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", ""]
    command += ["--appendonly", "yes" if durable else "no", "--maxmemory-policy", "noeviction"]
    with running(f"{name}-store", command, folder) as program:
        wait_for(program, lambda: connect(port))
        with redis.Redis(port=port, decode_responses=True) as client:
            info: dict[str, Any] = client.info("everything")
        server = info.get("server_name", "redis")
        version = info.get("valkey_version", info["redis_version"])
        yield Store(program, port, f"{server} {version}, {info['mem_allocator']}")
