"""Walk a newcomer's path through README.md, from a clone to the first governed answers, and say how long it takes.

    python tools/newcomer.py

It clones what is committed, and runs the README's own commands of "Try it" and "In your app", each in a fresh environment
with empty caches. Nothing is added to them; the port alone is changed to a free one. What `pip install govmiddleware`
finds is the clone's wheel, as if it were published. It ends with 1 where a step fails, or the way to its first governed answer
takes longer than two minutes.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
LONGEST = 120.0
"""Seconds."""
OURS = re.compile(r"GOV_|PYTHON|UV_(COMPILE|CACHE|PROJECT)|PIP_CACHE|VIRTUAL_ENV|XDG_|OPENAI_")
"""Variables that a newcomer has not set."""


class Newcomer:
    """Somebody with Python, git and a shell, and an empty folder.

    Attributes:
        clone: of this repository, whose README they follow.
        wheels: where pip looks first.
    """

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "clone"
        self.wheels = folder / "wheels"
        self._folder = folder
        run("git", "clone", "--quiet", REPOSITORY.as_uri(), self.clone)

    def code(self, section: str) -> list[tuple[str, str]]:
        """The code of a section of the README: the file that it is for, empty for commands, and its text."""
        readme = (self.clone / "README.md").read_text()
        [text] = re.findall(rf"^## {section}\n(.*?)(?=^## )", readme, re.DOTALL | re.MULTILINE)
        return re.findall(r"(?:`([\w.]+)`:\n\n)?```\w+\n(.*?)```", text, re.DOTALL)

    def try_it(self) -> None:
        [(_, commands)] = self.code("Try it")
        with self._shell("try", self.clone) as execute:
            expect(r"\nok: ", execute(commands))  # its audit

    def build_wheel(self) -> None:
        """What the newcomer need not do once it is published."""
        run(
            self._folder / "try/venv/bin/uv",
            "build",
            "--quiet",
            "--wheel",
            "--out-dir",
            self.wheels,
            self.clone,
        )

    def govern_an_app(self) -> None:
        folder = self._folder / "app"
        folder.mkdir()
        with self._shell("home", folder) as execute:
            for file, text in self.code("In your app"):
                if file:
                    (folder / file).write_text(text)
                else:
                    said = execute(text.replace("8000", str(free_port())))
                    expect("Hello to you!", said)
                    expect(r"\nann +1 ", said)

    @contextmanager
    def _shell(self, name: str, cwd: Path) -> Iterator[Callable[[str], str]]:
        """Runs commands in an empty environment, and gives what they print; ends what they leave behind."""
        home = self._folder / name
        run(sys.executable, "-m", "venv", home / "venv")
        environment = {key: value for key, value in os.environ.items() if not OURS.match(key)} | {
            "HOME": str(home),
            "PATH": f"{home / 'venv/bin'}:/usr/local/bin:/usr/bin:/bin",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        groups: list[int] = []

        def execute(commands: str) -> str:
            output = home / "output"
            with output.open("wb") as said:
                shell = subprocess.Popen(
                    ["bash", "-eu", "-c", commands],
                    cwd=cwd,
                    env=environment,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            groups.append(shell.pid)
            if shell.wait():
                raise SystemExit(f"these fail:\n{commands}\n{output.read_text()}")
            return output.read_text()

        try:
            yield execute
        finally:
            for group in groups:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGTERM)


def expect(pattern: str, said: str) -> None:
    if not re.search(pattern, said):
        raise SystemExit(f"expected {pattern!r} in:\n{said}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        began = time.monotonic()
        newcomer = Newcomer(Path(folder))
        newcomer.try_it()
        trying = time.monotonic() - began
        print(f"clone and Try it: {trying:5.1f} s", flush=True)
        newcomer.build_wheel()
        began = time.monotonic()
        newcomer.govern_an_app()
        governing = time.monotonic() - began
        print(f"In your app:      {governing:5.1f} s")
    return int(max(trying, governing) > LONGEST)


if __name__ == "__main__":
    raise SystemExit(main())
