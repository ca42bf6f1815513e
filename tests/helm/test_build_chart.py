"""What the chart derives from other files is as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helm.rendering import CHART

build_chart = pytest.importorskip("build_chart", reason="needs PyYAML: uv sync --group helm")

DERIVED = build_chart.built()


@pytest.mark.parametrize("path", DERIVED, ids=lambda path: str(path.relative_to(CHART)))
def test_derived_files_are_up_to_date(path: Path) -> None:
    fresh = path.read_text() == DERIVED[path]
    assert fresh, f"write {path.name} anew: uv run --group helm tools/build_chart.py"


def test_every_value_is_in_the_readme_and_what_is_no_name_says_what_it_is() -> None:
    rows = [line for line in DERIVED[CHART / "README.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert any(line.startswith("| `drain.seconds` | `300` | How long answers that run") for line in rows)
