"""Arrows go one way: the import rules of pyproject.toml hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_import_rules_hold() -> None:
    # In a process of its own: import-linter sets up logging for the whole of the one it runs in.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    root = Path(__file__).parent.parent
    linted = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
    assert "0 broken" in linted.stdout


def test_no_file_is_too_long_to_read() -> None:
    sources = Path(__file__).parent.parent / "src"
    lengths = {file.name: len(file.read_text().splitlines()) for file in sources.rglob("*.py")}
    assert lengths, "the sources are beside the tests"
    assert {name: length for name, length in lengths.items() if length > 500} == {}
