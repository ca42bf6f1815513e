"""Load on one target, from a process of its own, and what the target and its store spent on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stand.processes import BENCH
from stand.stores import Spent
from stand.targets import Target
from stand.workloads import CHAT_PATH

WRK = "wrk"
NEEDS_WRK = "the stand needs wrk: apt-get install wrk"
IDLE_WITHIN = 5.0
"""Seconds for what a gateway put off until after the load: journals are written behind the requests."""
CLIENT_STARTS_WITHIN = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of load.

    Attributes:
        figures: what the load generator says: requests, seconds, errors, and times in ms.
        cpu_us: of the target a request, what it did afterwards included.
        memory_mb: of the target, right after.
        store: what its store did.
    """

    figures: Mapping[str, float]
    cpu_us: float
    memory_mb: float
    store: Spent | None

    @property
    def rate(self) -> float:
        return self.figures["requests"] / self.figures["seconds"]


def with_wrk(target: Target, body: Path, *, connections: int, seconds: float) -> Sample:
    """Calls that are answered whole, on kept connections, each as soon as the one before is answered."""
    headers = "\n".join(f"{name}:{value}" for name, value in target.headers.items())
    environment = {**os.environ, "BODY": str(body), "HEADERS": headers}
    # wrk takes whole seconds alone.
    command = [WRK, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    command += ["-s", str(BENCH / "stand/post.lua"), target.url + CHAT_PATH]
    return _measured(target, command, environment)


def with_client(target: Target, workload: str, *, connections: int, seconds: float, **shape: int) -> Sample:
    """What `stand.client` sends. `shape` goes into headers for the mock: `chunks=400` is `x-mock-chunks: 400`."""
    return _measured(target, client_command(target, workload, connections, seconds, **shape), os.environ)


def client_command(
    target: Target, workload: str, connections: int, seconds: float, **shape: int
) -> list[str]:
    headers = dict(target.headers) | {
        f"x-mock-{name.replace('_', '-')}": str(value) for name, value in shape.items()
    }
    command = [sys.executable, "-m", "stand.client", target.url, workload, str(connections), str(seconds)]
    return [*command, *(f"{name}: {value}" for name, value in headers.items())]


@contextmanager
def beside(target: Target, workload: str, *, seconds: float) -> Iterator[None]:
    """Requests of `stand.client`, one after the other, from before the block begins and for so long into it."""
    command = client_command(target, workload, 1, CLIENT_STARTS_WITHIN + seconds)
    with subprocess.Popen(command, cwd=BENCH, stdout=subprocess.PIPE) as process:
        time.sleep(CLIENT_STARTS_WITHIN)
        yield
        process.wait(60)


def _measured(target: Target, command: Sequence[str], environment: Mapping[str, str]) -> Sample:
    cpu, spent = target.program.cpu_seconds(), target.store and target.store.spent()
    ran = subprocess.run(
        command, env=environment, cwd=BENCH, capture_output=True, text=True, check=True, timeout=120
    )
    memory = target.program.memory_mb()
    target.program.wait_until_idle(IDLE_WITHIN)
    figures: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return Sample(
        figures=figures,
        cpu_us=(target.program.cpu_seconds() - cpu) * 1e6 / max(1, figures["requests"]),
        memory_mb=memory,
        store=target.store.spent().since(spent) if target.store and spent else None,
    )
