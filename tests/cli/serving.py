"""`govmiddleware serve` in a process of its own, and what it says."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading

PATIENCE = 30


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

    def ended(self) -> int:
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while not self._new.empty():
            self.lines.append(self._new.get())
        return code
