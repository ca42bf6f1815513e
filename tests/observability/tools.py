"""Debian's package `prometheus`: promtool, and Prometheus itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Both live for seconds: collecting their garbage on every core costs more than it frees.
SPARING = {"GOGC": "400", "GOMAXPROCS": "1"}


def found(name: str) -> str:
    """Where the program is; skips the test where it is not."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}: apt-get install --no-install-recommends prometheus")
    return path


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What it says, in `stdout`, and its exit code."""
    return subprocess.run(
        [found("promtool"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | SPARING,
    )
