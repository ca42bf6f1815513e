"""The dashboard's file, as far as it can be checked without a Grafana."""

from __future__ import annotations

import itertools
import json

import pytest
from tests.observability.promql import DASHBOARD, dashboard, panels

import make_dashboard


def test_the_file_is_what_the_tool_writes() -> None:
    assert DASHBOARD.read_text() == make_dashboard.text(), "run tools/make_dashboard.py"


def test_it_has_an_address_that_stays_and_variables_for_what_there_may_be_several_of() -> None:
    shown = dashboard()
    assert shown["uid"] == "govmiddleware"
    names = [variable["name"] for variable in shown["templating"]["list"]]
    assert names == ["datasource", "namespace", "job", "instance", "provider", "model"]
    text = json.dumps(shown["panels"])
    assert all(f"${name}" in text or f"${{{name}}}" in text for name in names)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_explains_itself(panel: dict[str, object]) -> None:
    assert panel["title"]
    assert str(panel["description"]).endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]  # type: ignore[index]
    for target in panel["targets"]:  # type: ignore[attr-defined]
        assert target["legendFormat"] or panel["type"] == "table"
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    shown = dashboard()["panels"]
    assert len({panel["id"] for panel in shown}) == len(shown)
    for one, other in itertools.combinations((panel["gridPos"] for panel in shown), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in shown) == 24
