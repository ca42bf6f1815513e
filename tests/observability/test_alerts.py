"""The alert rules: each fires when it should, none in a healthy hour, and each has a page that says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tests.observability.promql import ALERT_TESTS, DOCS, HEALTHY_HOUR, RULES, rules
from tests.observability.tools import promtool

RUNBOOKS = DOCS / "runbooks"
SECTIONS = ["What it means", "What people see", "Look", "Mend", "Silence"]


def test_each_alert_fires_in_its_test_and_none_in_a_healthy_hour() -> None:
    tested = promtool("test", "rules", *ALERT_TESTS, HEALTHY_HOUR)
    assert tested.returncode == 0, tested.stdout


def test_each_alert_has_a_test_in_which_it_fires_and_a_time_in_which_it_does_not_yet() -> None:
    expected: dict[bool, set[str]] = {True: set(), False: set()}
    for file in ALERT_TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for look in test.get("alert_rule_test", []):
                expected[bool(look.get("exp_alerts"))].add(look["alertname"])
    names = {rule["alert"] for rule in rules()}
    assert expected[True] == expected[False] == names


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_where_its_runbook_is(rule: dict[str, dict[str, str]]) -> None:
    assert {"alert", "expr", "for", "labels", "annotations"} == rule.keys()
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    page = DOCS.parent / rule["annotations"]["runbook_url"]
    assert page == RUNBOOKS / f"{rule['alert']}.md"
    text = page.read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    assert re.findall("^## (.*)$", text, re.MULTILINE) == SECTIONS


def test_the_page_on_monitoring_lists_every_alert_and_there_is_no_runbook_without_one() -> None:
    listed = re.findall(r"\[(Gov\w+)\]\(runbooks/\1\.md\) \| (\w+)", (DOCS / "monitoring.md").read_text())
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in rules()]
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {name for name, _ in listed}


def test_promtool_would_see_an_alert_that_fires_in_the_healthy_hour(tmp_path: Path) -> None:
    text = RULES.read_text().replace("govmiddleware_store_down) == 1", "govmiddleware_store_down) == 0")
    (tmp_path / RULES.name).write_text(text)
    (tmp_path / "hour.yml").write_text(HEALTHY_HOUR.read_text().replace(f"../{RULES.name}", RULES.name))
    tested = promtool("test", "rules", tmp_path / "hour.yml")
    assert tested.returncode == 1
    assert 'alertname="GovmiddlewareStoreDown"' in tested.stdout
