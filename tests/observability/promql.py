"""What is written in PromQL: by the dashboard, by the alert rules. And what there is to ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from document_metrics import declared
from govmiddleware.metrics import Metrics

OBSERVABILITY = Path(__file__).parents[2] / "observability"
DOCS = OBSERVABILITY.parent / "docs"
DASHBOARD = OBSERVABILITY / "dashboards/govmiddleware.json"
RULES = OBSERVABILITY / "alerts/govmiddleware.rules.yml"
HEALTHY_HOUR = OBSERVABILITY / "alerts/tests/healthy_hour.yml"
ALERT_TESTS = sorted(set(HEALTHY_HOUR.parent.glob("*.yml")) - {HEALTHY_HOUR})

TARGET_LABELS = {"namespace", "job", "instance"}
"""What Prometheus adds to each series that it scrapes; in Kubernetes the first one, too."""
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
_LISTED = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SERIES = re.compile(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()(?:\{([^}]*)\})?")
_ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "on", "e6"}


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and where it stands."""

    place: str
    expression: str

    def series(self) -> Iterator[tuple[str, set[str]]]:
        """Each series that it names, with the labels that it is chosen by."""
        rest = re.sub(r"\[[^\]]*\]", "", _LISTED.sub("", self.expression))
        for name, matchers in _SERIES.findall(rest):
            if name not in _WORDS:
                yield name, set(_MATCHER.findall(matchers))

    def listed_labels(self) -> set[str]:
        """Those that it aggregates by, and joins on."""
        return {label for listed in _LISTED.findall(self.expression) for label in re.findall(r"\w+", listed)}


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def panels() -> list[Any]:
    """Without the rows' titles."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[Any]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panel_queries() -> list[Query]:
    """The dashboard's, with everything chosen."""
    return [
        Query(f"{panel['title']} {target['refId']}", _chosen(target["expr"]))
        for panel in panels()
        for target in panel["targets"]
    ]


def alert_queries() -> list[Query]:
    return [Query(rule["alert"], rule["expr"]) for rule in rules()]


def runbook_queries() -> list[Query]:
    """What the pages say to ask for: each piece of code in a line that names a metric."""
    pages = [DOCS / "monitoring.md", *sorted((DOCS / "runbooks").glob("*.md"))]
    return [
        Query(page.name, code)
        for page in pages
        for code in re.findall(r"`([^`\n]*govmiddleware_[^`\n]*)`", page.read_text())
    ]


def known_series() -> dict[str, set[str]]:
    """Every series that can be asked for, with its labels: ours, the process's, and Prometheus' own."""
    known = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
    for family in Metrics().registry.collect():
        known |= {sample.name: set(sample.labels) for sample in family.samples}
    for metric in declared():
        [family] = metric.describe()
        for ending in _ENDINGS[family.type]:
            labels = set(metric._labelnames)  # there is no public way
            known[family.name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    return known


def _chosen(expression: str) -> str:
    for variable, value in {"$__rate_interval": "5m", "$__range": "3h"}.items():
        expression = expression.replace(variable, value)
    return re.sub(r"\$\w+", ".*", expression)
