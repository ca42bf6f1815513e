"""The store of each gateway: Debian's redis-server, or the Valkey of the extra `embedded`, set up as in production."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from govmiddleware.ledger.embedded import _find_binary
from stand.processes import Program, free_port, running, wait_for_port

SCRIPTS = {"evalsha", "eval", "fcall"}
READS_OF_THE_JOURNAL = {"xreadgroup", "xautoclaim", "xack", "xpending", "xinfo", "xgroup"}
"""Sent by drainers alone. What scripts call is in the scripts' own time."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a server has done so far, by its own account.

    Attributes:
        trips: commands that clients sent.
        script_us, journal_us: in scripts, and in the commands that read the journal.
        cpu_us: of its main thread, the protocol and the append-only file included.
    """

    trips: int
    scripts: int
    script_us: int
    journal_us: int
    cpu_us: float

    def since(self, before: Spent) -> Spent:
        return Spent(
            self.trips - before.trips,
            self.scripts - before.scripts,
            self.script_us - before.script_us,
            self.journal_us - before.journal_us,
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
        stats = {
            name.removeprefix("cmdstat_"): row for name, row in info.items() if name.startswith("cmdstat_")
        }
        by_script = {name: row for name, row in stats.items() if name in SCRIPTS}
        journal = {name: row for name, row in stats.items() if name.partition("|")[0] in READS_OF_THE_JOURNAL}
        return Spent(
            trips=sum(row["calls"] for row in (*by_script.values(), *journal.values())),
            scripts=sum(row["calls"] for row in by_script.values()),
            script_us=sum(row["usec"] for row in by_script.values()),
            journal_us=sum(row["usec"] for row in journal.values()),
            cpu_us=1e6 * (info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]),
        )

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
        wait_for_port(program, port)
        with redis.Redis(port=port, decode_responses=True) as client:
            info: dict[str, Any] = client.info("everything")
        server = info.get("server_name", "redis")
        version = info.get("valkey_version", info["redis_version"])
        yield Store(program, port, f"{server} {version}, {info['mem_allocator']}")
