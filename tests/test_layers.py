"""Arrows go one way: the contracts of import-linter in pyproject.toml hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_contracts_of_the_layers_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    linter = pytest.importorskip("importlinter.cli", reason="import-linter comes with the dev group")
    monkeypatch.chdir(ROOT)
    assert linter.lint_imports(no_cache=True) == 0, capsys.readouterr().out


def test_no_file_is_too_long_to_read() -> None:
    lengths = {
        os.fspath(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for file in (ROOT / "src").rglob("*.py")
    }
    assert lengths, "the sources are beside the tests"
    assert {name: length for name, length in lengths.items() if length > 500} == {}
