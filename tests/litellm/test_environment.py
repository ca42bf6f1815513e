"""tools/litellm_env.py, with a stand-in for uv: the real one would load half a gigabyte."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import litellm_env

UV = """#!/bin/sh
echo "$2" >> "{log}"
case "$2" in
  venv) mkdir -p "$6/bin" ;;
  pip) {installs}; touch "$5/bin/litellm" ;;
esac
"""


class Builder:
    """Runs the tool where `uv` is ours."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._log = folder / "uv.log"

    def build(self, installs: str = "true") -> subprocess.CompletedProcess[str]:
        uv = self._bin / "uv"
        uv.write_text(UV.format(log=self._log, installs=installs))
        uv.chmod(0o755)
        environment = {
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.cache),
        }
        command = [sys.executable, litellm_env.__file__]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def uv_calls(self) -> list[str]:
        return self._log.read_text().split()

    def environments(self) -> list[str]:
        """What lies in the cache, but for locks."""
        return sorted(path.name for path in self.cache.glob("*/*") if path.suffix != ".lock")


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def test_it_is_built_once_and_found_again(builder: Builder) -> None:
    first, second = builder.build(), builder.build()
    assert first.returncode == second.returncode == 0, first.stderr
    assert builder.uv_calls() == ["venv", "pip"]
    [name] = builder.environments()
    assert re.fullmatch(r"litellm-[\d.]+-[0-9a-f]{8}", name)
    assert first.stdout == second.stdout == f"{builder.cache / 'govmiddleware' / name}\n"


@pytest.mark.parametrize(
    ("breaks", "code"), [("exit 1", 1), ("kill -9 $PPID", -signal.SIGKILL)], ids=["fails", "killed"]
)
def test_a_build_that_breaks_off_leaves_nothing_that_is_taken_for_one(
    builder: Builder, breaks: str, code: int
) -> None:
    broken = builder.build(breaks)
    assert (broken.returncode, broken.stdout) == (code, "")
    [left] = builder.environments()
    assert left.endswith(".partial")
    assert builder.build().returncode == 0
    assert builder.environments() == [left.removesuffix(".partial")]
