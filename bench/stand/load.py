"""Load on one target, from a process of its own, and what the target and its store spent on it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stand.processes import BENCH
from stand.stores import Spent
from stand.targets import Target

WRK = "wrk"
NEEDS_WRK = "the stand needs wrk: apt-get install wrk"
CHAT_PATH = "/v1/chat/completions"
IDLE_WITHIN = 5.0
"""Seconds for what a gateway put off until after the load: journals are written behind the requests."""


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


def with_wrk(
    target: Target, body: Path, *, connections: int, seconds: float, path: str = CHAT_PATH
) -> Sample:
    """Calls that are answered whole, on kept connections, each as soon as the one before is answered."""
    environment = {
        **os.environ,
        "BODY": str(body),
        "HEADERS": "\n".join(f"{name}:{value}" for name, value in target.headers.items()),
    }
    command = [WRK, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "10s"]
    command += ["-s", str(BENCH / "stand/post.lua"), target.url + path]
    return _measured(target, command, environment)


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
