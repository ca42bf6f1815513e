"""What the chart derives from other files is as they are; else: uv run --group helm tools/build_chart.py"""

from __future__ import annotations

import pytest
from tests.helm.rendering import helm

import build_chart

assert helm


@pytest.mark.parametrize("path", build_chart.built(), ids=lambda path: str(path.name))
def test_derived_files_are_up_to_date(path: object) -> None: ...
