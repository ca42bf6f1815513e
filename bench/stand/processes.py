"""Programs of the stand: started, watched until they answer, looked at in /proc, ended by their process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).parent.parent
READY_WITHIN = 120.0
"""Seconds. LiteLLM imports for 15, and several times as long on a busy machine."""
IDLE_CORES = 0.05
"""What a process spends, as a part of a core, when it has nothing left to do."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Program:
    """A running program and all that it started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        """Its own, then those of its children and theirs."""
        found = [self.process.pid]
        for pid in found:
            try:
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (thread / "children").read_text().split()]
            except OSError:
                continue  # it has ended
        return found

    def cpu_seconds(self) -> float:
        """User and system time so far, in steps of 10 ms."""
        return sum(_cpu_ticks(pid) for pid in self.pids()) / _TICKS

    def memory_mb(self) -> float:
        """Resident now, shared pages counted in each process that has them."""
        return sum(_status_kb(pid, "VmRSS") for pid in self.pids()) / 1024

    def peak_memory_mb(self) -> float:
        """The most that was resident since `forget_peak`."""
        return sum(_status_kb(pid, "VmHWM") for pid in self.pids()) / 1024

    def forget_peak(self) -> None:
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM

    def wait_until_idle(self, within: float) -> None:
        """Until it has done what it put off, such as writing its journal."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.2)
            if self.cpu_seconds() - before <= 0.2 * IDLE_CORES:
                return


def _cpu_ticks(pid: int) -> int:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(after_name[11]) + int(after_name[12])


def _status_kb(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def end_on_sigterm() -> None:
    """Have SIGTERM end this process as an exception does, so that what it started ends too."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path = BENCH,
) -> Iterator[Program]:
    """A program that ends with the block. It runs in `bench`, so that it can import `stand`."""
    log = folder / f"{name}.log"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GOV_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=inherited | dict(environment or {}), cwd=cwd
        )
    try:
        yield Program(name, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(program: Program, answers: Callable[[], object]) -> None:
    """Until it no longer raises OSError, as long as nobody listens."""
    deadline = time.monotonic() + READY_WITHIN
    while program.process.poll() is None:
        try:
            answers()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{program.name} does not answer") from error
            time.sleep(0.02)
    raise RuntimeError(f"{program.name} did not start:\n{program.log.read_text()[-3000:]}")


def connect(port: int) -> None:
    """Raises OSError where nobody listens."""
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
