"""What tests run against and is not ours: built in the user's cache, outside git.

A build is named after a digest of what pins it, made aside and then renamed, one at a time: what is there is whole,
whatever interrupted a build.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

Command = Sequence[str | Path]


def directory(variable: str, name: str, pins: bytes) -> Path:
    """Where the build is, or would be: what the environment's `variable` says, else in the user's cache."""
    if chosen := os.environ.get(variable):
        return Path(chosen).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "govmiddleware" / f"{name}-{hashlib.sha256(pins).hexdigest()[:8]}"


def build(target: Path, result: Path, commands: Callable[[Path], Sequence[Command]]) -> None:
    """Run the commands that make a build in the folder they are given, unless `result` is in `target` already.

    Raises CalledProcessError where one of them fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.partial")
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / result).exists():
            return
        shutil.rmtree(aside, ignore_errors=True)  # of a build that was interrupted
        for command in commands(aside):
            # The command holds the lock too: it may outlive us. What it prints is not the path that we print.
            subprocess.run(command, check=True, pass_fds=[lock.fileno()], stdout=subprocess.DEVNULL)
        aside.rename(target)
