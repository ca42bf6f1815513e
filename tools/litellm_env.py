"""Build LiteLLM's proxy in an environment of its own, and print where it is.

    python tools/litellm_env.py

tests/litellm runs against it. What it holds is pinned in requirements/litellm.txt; ours it cannot share, for
LiteLLM pins versions that we do not. It lies in $GOVMIDDLEWARE_LITELLM, else in the user's cache under
LiteLLM's version and a digest of the pins. Where it is there already, nothing is done. It is built aside and
then renamed, one build at a time: what is there is whole, whatever interrupted a build.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent.parent / "requirements/litellm.txt"
COMMAND = Path("bin/litellm")
"""In the environment."""


def directory() -> Path:
    """Where the environment is, or would be."""
    if chosen := os.environ.get("GOVMIDDLEWARE_LITELLM"):
        return Path(chosen).absolute()
    pins = REQUIREMENTS.read_bytes()
    version = re.search(rb"^litellm==(\S+)", pins, re.MULTILINE)
    assert version is not None, f"{REQUIREMENTS} pins no litellm"
    digest = hashlib.sha256(pins).hexdigest()[:8]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "govmiddleware" / f"litellm-{version[1].decode()}-{digest}"


def build(target: Path) -> None:
    """Build the environment unless it is there. Raises CalledProcessError where uv fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.partial")
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / COMMAND).exists():
            return
        shutil.rmtree(aside, ignore_errors=True)  # of a build that was interrupted
        for arguments in (
            ["venv", "--relocatable", "--python", sys.executable, aside],
            # Compiled here, LiteLLM starts in ten seconds and not in twenty.
            [
                "pip",
                "install",
                "--python",
                aside,
                "--compile-bytecode",
                "--require-hashes",
                "-r",
                REQUIREMENTS,
            ],
        ):
            # uv holds the lock too: it may outlive us.
            subprocess.run(["uv", "--quiet", *arguments], check=True, pass_fds=[lock.fileno()])
        aside.rename(target)


if __name__ == "__main__":
    build(directory())
    print(directory())
