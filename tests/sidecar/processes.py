"""Sidecars as processes of their own, started by the real command."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True, slots=True)
class SidecarProcess:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As a crash does: no handler runs."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def workers(self) -> list[int]:
        """The process ids of the workers that have begun to serve so far, in this order."""
        return [int(pid) for pid in re.findall(r"worker (\d+) serves", self.log.read_text())]


def govmiddleware(*arguments: str, without: str | None = None) -> list[str]:
    """The command. Args: without: a package that it is not to find."""
    if without is None:
        return [sys.executable, "-m", "govmiddleware", *arguments]
    hide = f"import sys; sys.modules[{without!r}] = None; from govmiddleware.cli import main; main()"
    return [sys.executable, "-c", hide, *arguments]


@contextmanager
def serve_processes(
    config: Path, count: int = 1, *, workers: int = 1, without: str | None = None
) -> Iterator[list[SidecarProcess]]:
    """`govmiddleware serve` on free ports, ready; ended with SIGTERM. Logs lie beside the configuration."""
    flags = ["--workers", str(workers)]
    with ExitStack() as running:
        sidecars = []
        for number in range(count):
            log = config.with_suffix(f".{number}.log")
            sidecars.append(start(config, free_port(), log, *flags, without=without))
            running.callback(end, sidecars[-1].process)
        for sidecar in sidecars:
            wait_until_ready(sidecar, workers)
        yield sidecars


def start(config: Path, port: int, log: Path, *flags: str, without: str | None = None) -> SidecarProcess:
    """`govmiddleware serve`, on its way."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name == "GOV_DATA_DIR" or not name.startswith("GOV_")
    }
    command = govmiddleware("serve", "--config", str(config), "--port", str(port), *flags, without=without)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    return SidecarProcess(f"http://127.0.0.1:{port}", process, log)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    """With SIGTERM, unless it has ended."""
    process.terminate()
    process.wait(60)


def wait_until_ready(sidecar: SidecarProcess, workers: int = 1) -> None:
    deadline = time.monotonic() + 50 + 10 * workers
    with httpx.Client() as http:  # one: to make a client takes longer than to ask
        while time.monotonic() < deadline and sidecar.process.poll() is None:
            if workers > 1 and len(sidecar.workers()) < workers:
                time.sleep(0.05)
                continue
            try:
                if http.get(f"{sidecar.url}/gov/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
    raise AssertionError(f"the sidecar did not start:\n{sidecar.log.read_text()}")
