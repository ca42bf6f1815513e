"""LiteLLM's proxy as a process of its own, started by its real command."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tests.sidecar.processes import free_port

MASTER_KEY = "sk-litellm-master"

CONFIG = Path(__file__).with_name("litellm.yaml")
STARTS_WITHIN = 90
"""Seconds. It imports for 10, and several times as long on a busy machine."""


class LiteLLM:
    """The proxy on a port of its own, over `litellm.yaml`."""

    def __init__(self, command: Path, provider_url: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        self._command = [str(command), "--config", str(CONFIG), *address]
        self._log = folder / "litellm.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "PROVIDER_URL": f"{provider_url}/v1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_TELEMETRY": "False",
            "NO_DOCS": "True",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return at once: until it is ready nobody listens on its port."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health/liveliness").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"LiteLLM did not start:\n{self._log.read_text()}")

    @contextmanager
    def restarting(self) -> Iterator[None]:
        """Killed as by a crash, it starts again while the block runs, and is ready after it."""
        self.kill()
        self.start()
        try:
            yield
        finally:
            self.wait_until_ready()

    def kill(self) -> None:
        """No handler runs; its connections break."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
