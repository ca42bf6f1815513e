"""Install the coding agents Claude Code and Codex, and print where they are.

    python tools/agents_env.py

tests/sidecar/test_coding_agents.py runs them. requirements/agents pins them, to the digests of their packages (`pins.json`
is npm's lock without addresses): npm has to be there, and 700 MB of room. They lie in $GOVMIDDLEWARE_AGENTS, else in the user's cache under a digest of the pins. Where they
are there already, nothing is done. Their install scripts are not run: what is used comes whole in the packages.
"""

from __future__ import annotations

from pathlib import Path

import cached_build

PINS = Path(__file__).parent.parent / "requirements/agents"
VARIABLE = "GOVMIDDLEWARE_AGENTS"
CODEX = Path("node_modules/.bin/codex")
"""A script for Node.js."""

CLAUDE_CODE = Path("node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs")
"""A script for Node.js that finds the program of this platform. What npm links as `claude` would have to be installed."""


def directory() -> Path:
    """Where the agents are, or would be."""
    return cached_build.directory(VARIABLE, "agents", (PINS / "pins.json").read_bytes())


def commands(aside: Path) -> list[cached_build.Command]:
    return [
        ["mkdir", aside],
        ["cp", PINS / "package.json", aside],
        ["cp", PINS / "pins.json", aside / "package-lock.json"],
        ["npm", "--prefix", aside, "--silent", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    ]


if __name__ == "__main__":
    cached_build.build(directory(), CODEX, commands)
    print(directory())
