"""`govmiddleware serve` in a process of its own: what it says, and calls to it."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from govmiddleware.core import ids
from govmiddleware.testing import Script, ScriptedProvider
from govmiddleware.testing.bell import Gate

PATIENCE = 30

SECRET = "open sesame"
TOKEN = {"authorization": f"Bearer {SECRET}"}
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 30}
CONFIGURATION = f"""
[[api_tokens]]
name = "ci"
workspace = "acme"
sha256 = "{ids.hash_api_token(SECRET)}"
"""


class Serving:
    """`govmiddleware serve` on a free port; it leads a process group, as in a terminal.

    Args:
        first: a statement for the process to begin with.
    """

    def __init__(self, *arguments: str, first: str = "") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        program = (
            ["-c", f"{first}; from govmiddleware.cli import main; main()"]
            if first
            else ["-m", "govmiddleware"]
        )
        self.process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", str(self.port), *arguments],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._new.put(line)

    def until(self, said: str) -> str:
        """Wait for a line that says this."""
        while True:
            self.lines.append(self._new.get(timeout=PATIENCE))
            if said in self.lines[-1]:
                return self.lines[-1]

    def until_workers_serve(self, count: int) -> list[int]:
        """Wait until so many have begun to; their process ids."""
        return [int(self.until(" serves").split()[-2]) for _ in range(count)]

    def call(self) -> int:
        """Make a call; its status."""
        url = f"{self.url}/v1/chat/completions"
        return httpx.post(url, json=BODY, headers=TOKEN, timeout=PATIENCE).status_code

    def ended(self) -> int:
        """Wait for the end; its exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while not self._new.empty():
            self.lines.append(self._new.get())
        return code

    def said(self, *any_of: str) -> int:
        """How many lines say one of these. Of all, once it has ended; else of those that were waited for."""
        return sum(any(each in line for each in any_of) for line in self.lines)


class HeldStream:
    """A stream that has begun, and goes on when it may."""

    def __init__(self, gate: Gate, chunks: Iterator[bytes]) -> None:
        self._gate = gate
        self._chunks = chunks

    def ends_well(self) -> bool:
        self._gate.open()
        return self.rest().endswith(b"data: [DONE]\n\n")

    def rest(self) -> bytes:
        return b"".join(self._chunks)


@contextmanager
def a_held_stream(serving: Serving, provider: ScriptedProvider) -> Iterator[HeldStream]:
    """Begin a stream, and hold it."""
    gate = Gate()
    gate.let(1)
    provider.next(Script(gate=gate))
    body = BODY | {"stream": True}
    url = f"{serving.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=TOKEN, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        chunks = answer.iter_bytes()
        next(chunks)
        yield HeldStream(gate, chunks)
