"""Sidecars as processes of their own, started by the real command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True, slots=True)
class SidecarProcess:
    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """As a crash does: no handler runs."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def govmiddleware(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "govmiddleware", *arguments]


@contextmanager
def serve_process(config: Path, log: Path) -> Iterator[SidecarProcess]:
    """`govmiddleware serve` on a free port, ready; ended with SIGTERM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOV_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            govmiddleware("serve", "--config", str(config), "--port", str(port)),
            stdout=output,
            stderr=output,
            env=environment,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, log)
        yield SidecarProcess(url, process)
    finally:
        process.terminate()
        process.wait(40)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/gov/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError(f"the sidecar did not start:\n{log.read_text()}")
