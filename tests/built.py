"""Programs that are not ours, where a tool of `tools/` has built them."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest


def built(program: str | Path, tool: ModuleType) -> Path:
    """`program` in what `tool` builds. Where it is not there, the test is skipped, with the command that builds it."""
    path: Path = tool.directory() / program
    if not path.exists():
        reason = f"python tools/{tool.__name__}.py builds what these run against"
        if tool.VARIABLE in os.environ:  # who says where it is wants them run
            pytest.fail(reason)
        pytest.skip(reason)
    return path
