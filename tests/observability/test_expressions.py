"""What the dashboard and the alert rules ask Prometheus for is PromQL, and there is such a thing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.observability.promql import (
    RULES,
    TARGET_LABELS,
    Query,
    alert_queries,
    known_series,
    panel_queries,
    runbook_queries,
)
from tests.observability.tools import promtool

from document_metrics import declared, name_of

QUERIES = panel_queries() + alert_queries() + runbook_queries()


def test_promtool_reads_the_alert_rules() -> None:
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout


def test_promtool_reads_every_expression_of_dashboard_and_runbooks(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    queries = panel_queries() + runbook_queries()
    recorded = [{"record": f"query:{number}", "expr": each.expression} for number, each in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout
    assert f"{len(queries)} rules found" in checked.stdout


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    return known_series()


def test_every_series_that_is_asked_for_exists_with_the_labels_it_is_chosen_and_grouped_by(
    known: dict[str, set[str]],
) -> None:
    assert [problem for query in QUERIES for problem in problems(query, known)] == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("rate(govmiddleware_request_total[5m])", "no series govmiddleware_request_total"),
        ('govmiddleware_requests_total{modle="a"}', "govmiddleware_requests_total has no label modle"),
        ("sum by (scrip) (rate(govmiddleware_store_seconds_count[5m]))", "nothing in it has a label scrip"),
        ("up == 0 and on (limit) group (govmiddleware_build_info)", "nothing in it has a label limit"),
        ("govmiddleware_store_seconds", "no series govmiddleware_store_seconds"),
    ],
)
def test_what_does_not_exist_is_found(known: dict[str, set[str]], expression: str, problem: str) -> None:
    assert problems(Query("here", expression), known) == [f"here: {problem}"]


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(query.expression for query in panel_queries())
    unseen = {name for metric in declared() if (name := name_of(metric)) not in shown}
    assert unseen == {"govmiddleware_cut_streams_total"}, "which streams_total counts, too"


def problems(query: Query, known: dict[str, set[str]]) -> list[str]:
    """What of it does not exist."""
    found = []
    there = set(TARGET_LABELS)
    for name, labels in query.series():
        if name not in known:
            found.append(f"{query.place}: no series {name}")
            continue
        there |= known[name]
        missing = labels - known[name] - TARGET_LABELS
        found += [f"{query.place}: {name} has no label {label}" for label in sorted(missing)]
    missing = query.listed_labels() - there if not found else set()
    return found + [f"{query.place}: nothing in it has a label {label}" for label in sorted(missing)]
