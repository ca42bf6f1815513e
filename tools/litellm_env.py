"""Build LiteLLM's proxy in an environment of its own, and print where it is.

    python tools/litellm_env.py

tests/litellm runs against it, and examples/litellm_in_process runs in it: it holds what we need too. It is pinned in
requirements/litellm.txt; ours it cannot share, for the tests need an openai SDK that LiteLLM does not take. It lies in
$GOVMIDDLEWARE_LITELLM, else in the user's cache under LiteLLM's version and a digest of the pins. Where it is there
already, nothing is done.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cached_build

REQUIREMENTS = Path(__file__).parent.parent / "requirements/litellm.txt"
VARIABLE = "GOVMIDDLEWARE_LITELLM"
COMMAND = Path("bin/litellm")
PYTHON = Path("bin/python")
"""In the environment."""


def directory() -> Path:
    """Where the environment is, or would be."""
    pins = REQUIREMENTS.read_bytes()
    version = re.search(rb"^litellm==(\S+)", pins, re.MULTILINE)
    assert version is not None, f"{REQUIREMENTS} pins no litellm"
    return cached_build.directory(VARIABLE, f"litellm-{version[1].decode()}", pins)


def commands(aside: Path) -> list[cached_build.Command]:
    # Compiled here, LiteLLM starts in ten seconds and not in twenty.
    install = ["uv", "--quiet", "pip", "install", "--python", aside, "--compile-bytecode", "--require-hashes"]
    return [
        ["uv", "--quiet", "venv", "--relocatable", "--python", sys.executable, aside],
        [*install, "-r", REQUIREMENTS],
    ]


if __name__ == "__main__":
    cached_build.build(directory(), COMMAND, commands)
    print(directory())
