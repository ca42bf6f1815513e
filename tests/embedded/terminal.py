"""A command in a terminal of its own, at which the test is the keyboard."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

_AS_SESSION_LEADER = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "govmiddleware", *sys.argv[1:]])
"""


class Terminal:
    """`govmiddleware` with these arguments; what it says is read by `until` and `ended`."""

    def __init__(self, *arguments: str, **environment: str | Path) -> None:
        self._screen, keyboard = pty.openpty()
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AS_SESSION_LEADER, *arguments],
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
            env=os.environ | {name: str(value) for name, value in environment.items()},
        )
        os.close(keyboard)

    def press_ctrl_c(self) -> None:
        """The terminal sends SIGINT to all of its foreground process group."""
        os.write(self._screen, b"\x03")

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while text not in self.said:
            assert time.monotonic() < deadline, f"it never said {text!r}, but:\n{self.said}"
            assert self._read(), f"it ended:\n{self.said}"

    def ended(self) -> int:
        """Its exit code; all it said is in `said`."""
        while self._read():
            pass
        return self.process.wait(20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)
        os.close(self._screen)

    def _read(self) -> bool:
        """False where nobody can say anything any more."""
        if not select.select([self._screen], [], [], 20)[0]:
            raise AssertionError(f"it hangs:\n{self.said}")
        try:
            self.said += os.read(self._screen, 65536).decode(errors="replace")
        except OSError:
            return False
        return True
