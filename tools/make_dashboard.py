"""Writes the Grafana dashboard, observability/dashboards/govmiddleware.json, from what `dashboard_panels.py` says.

    uv run python tools/make_dashboard.py

Edit there, run this, commit both: a test compares them. To try something out, edit it in Grafana, where every change can be
made, and bring what is worth keeping back here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dashboard_panels import (
    ALERTS,
    AT_A_GLANCE,
    COST,
    ESTIMATES,
    LATENCY,
    RESERVED,
    TRAFFIC,
    UPSTREAMS,
    Panel,
    Row,
)
from dashboard_panels_inside import JOURNAL, PROCESS, RESERVATIONS, STORE

FILE = Path(__file__).parent.parent / "observability/dashboards/govmiddleware.json"

ROWS = [
    AT_A_GLANCE,
    ALERTS,
    TRAFFIC,
    UPSTREAMS,
    LATENCY,
    COST,
    RESERVED,
    ESTIMATES,
    STORE,
    RESERVATIONS,
    JOURNAL,
    PROCESS,
]

_HERE = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
_LABELS = {
    "HERE": _HERE,
    "PROVIDER": f'{_HERE}, provider=~"$provider"',
    "MODEL": f'{_HERE}, provider=~"$provider", model=~"$model"',
}
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24

Json = dict[str, Any]


def dashboard() -> Json:
    panels: list[Json] = []
    top = 0
    for row in ROWS:
        panels.append(
            {
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": _place(0, top, _WIDTH, 1),
                "panels": [],
            }
        )
        top += 1
        panels.extend(_row(row, top))
        top += row.height * -(-len(row.panels) // row.across)
    return {
        "uid": "govmiddleware",
        "title": "govmiddleware",
        "description": "LLM traffic that govmiddleware governs: refusals, cost, limits, upstreams, store and journal.",
        "tags": ["govmiddleware", "llm"],
        "schemaVersion": 42,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def expression(query: str) -> str:
    """A query of a panel as Grafana gets it."""
    return re.sub(r"\b(HERE|PROVIDER|MODEL)\b", lambda name: _LABELS[name[0]], query)


def _row(row: Row, top: int) -> list[Json]:
    width = _WIDTH // row.across
    return [
        _panel(
            panel,
            _place(number % row.across * width, top + number // row.across * row.height, width, row.height),
        )
        for number, panel in enumerate(row.panels)
    ]


def _place(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, place: Json) -> Json:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [
            _target(chr(ord("A") + number), panel, legend, query)
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        **_LOOKS[panel.kind],
    }


def _target(letter: str, panel: Panel, legend: str, query: str) -> Json:
    is_table = panel.kind == "table"
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": expression(query),
        "legendFormat": legend,
        "instant": is_table,
        "range": not is_table,
        "format": "table" if is_table else "time_series",
    }


def _field(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.states:
        steps.append({"color": "red", "value": 1})
    elif panel.alert_at is not None:
        # Just above 0, where anything at all is worth an alert.
        steps.append({"color": "red", "value": panel.alert_at or 1e-9})
    field: Json = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.states:
        texts = {str(value): {"text": text, "index": value} for value, text in enumerate(panel.states)}
        field["mappings"] = [{"type": "value", "options": texts}]
    if panel.kind == "timeseries":
        field["color"] = {"mode": "palette-classic"}
        field["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.is_stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.alert_at else "off"},
        }
    return field


_LOOKS: dict[str, Json] = {
    "timeseries": {
        "options": {
            "legend": {
                "showLegend": True,
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["mean", "lastNotNull"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    },
    "stat": {
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
            "graphMode": "area",
            "textMode": "value",
        }
    },
    "table": {
        "options": {"showHeader": True, "cellHeight": "sm"},
        "transformations": [
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True, "__name__": True, "alertstate": True}},
            }
        ],
    },
}


def _variables() -> list[Json]:
    source = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "hide": 0,
    }
    build = "govmiddleware_build_info"
    requests = f"govmiddleware_requests_total{{{_HERE}}}"
    return [
        source,
        _variable("namespace", f"label_values({build}, namespace)"),
        _variable("job", f'label_values({build}{{namespace=~"$namespace"}}, job)'),
        _variable("instance", f'label_values({build}{{namespace=~"$namespace", job=~"$job"}}, instance)'),
        _variable("provider", f"label_values({requests}, provider)"),
        _variable("model", f"label_values({requests}, model)"),
    ]


def _variable(name: str, query: str) -> Json:
    """One to choose values of a label with. All of them is `.*`, which holds for a label that is not there, too."""
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
