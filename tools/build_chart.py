"""Write what the chart in helm/govmiddleware derives from other files: its README from the comments of
values.yaml, the schema of `config` from the settings tree, and the alert rules and the dashboard, as Helm reads
nothing that lies outside a chart.

    uv run --group helm tools/build_chart.py
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from govmiddleware.settings import Settings

PROJECT = Path(__file__).parent.parent
CHART = PROJECT / "helm" / "govmiddleware"

COPIES = {
    CHART / "files/govmiddleware.rules.yml": PROJECT / "observability/alerts/govmiddleware.rules.yml",
    CHART / "files/govmiddleware.json": PROJECT / "observability/dashboards/govmiddleware.json",
}

SET_BY_THE_CHART = {"data_dir", "redis_url"}


def built() -> dict[Path, str]:
    """What each derived file should hold."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    return {
        CHART / "README.md": readme((CHART / "values.yaml").read_text()),
        CHART / "values.schema.json": json.dumps(with_settings(schema), indent=2, ensure_ascii=False) + "\n",
    } | {copy: original.read_text() for copy, original in COPIES.items()}


# The README ---------------------------------------------------------------------------------------


class Value(NamedTuple):
    line: int
    path: str
    default: str
    comment: str


def readme(text: str) -> str:
    """Tables of the values, one for each section that a line `## Title` begins."""
    lines = text.splitlines()
    titles = {index: line.removeprefix("## ") for index, line in enumerate(lines) if line.startswith("## ")}
    rows: list[str] = []
    for value in _values(yaml.compose(text), lines):
        for line in [line for line in titles if line < value.line]:
            rows.append(f"\n## {titles.pop(line)}\n\n| value | default | |\n|---|---|---|")
        rows.append(f"| `{value.path}` | `{value.default}` | {value.comment} |")
    return (
        "# The chart\n\nHow to install it, and what matters in production: [Kubernetes](../../docs/kubernetes.md)."
        " This page is made of `values.yaml` by `tools/build_chart.py`.\n" + "\n".join(rows) + "\n"
    )


def _values(mapping: yaml.MappingNode, lines: list[str], prefix: str = "") -> Iterator[Value]:
    """A block of values is one value if a comment `# --` stands over it, and else those in it are."""
    for key, node in mapping.value:
        path, line = prefix + key.value, key.start_mark.line
        comment = _comment(lines, line)
        if isinstance(node, yaml.MappingNode) and not node.flow_style and not comment:
            yield from _values(node, lines, f"{path}.")
        else:
            default = json.dumps(yaml.safe_load(yaml.serialize(node)), ensure_ascii=False)
            yield Value(line, path, default, comment)


def _comment(lines: list[str], line: int) -> str:
    """The comment that ends right over a line, from `# --` on; nothing where there is none."""
    above: list[str] = []
    for text in reversed([each.strip() for each in lines[:line]]):
        if not text.startswith("# "):
            return ""
        above.insert(0, text.removeprefix("# ").removeprefix("-- ").replace("|", "\\|"))
        if text.startswith("# -- "):
            return " ".join(above)
    return ""


# The schema ---------------------------------------------------------------------------------------


def with_settings(schema: dict[str, Any]) -> dict[str, Any]:
    """The chart's schema, with `config`, what it refers to and the names of secrets taken anew from the settings
    tree. Secrets are no part of `config`, so that they are refused there, and stand under `secrets` alone.
    """
    settings = Settings.model_json_schema()
    shapes = {name: _plain(shape) for name, shape in settings.pop("$defs").items()}
    secrets = [name for name, shape in settings["properties"].items() if _is_secret(shape)]
    config = _plain(settings)
    for name in SET_BY_THE_CHART:
        del config["properties"][name]
    schema = copy.deepcopy(schema)
    schema["properties"]["config"] = config
    references = {name: {"$ref": "#/$defs/secret"} for name in ["redis_url", *secrets]}
    schema["properties"]["secrets"]["properties"]["settings"]["properties"] = references
    schema["$defs"] = {
        name: shape for name, shape in schema["$defs"].items() if not name[0].isupper()
    } | shapes
    return schema


def _plain(shape: Any) -> Any:
    """Without secrets, and without what says nothing of validity: titles, defaults, descriptions."""
    if isinstance(shape, list):
        return [_plain(each) for each in shape]
    if not isinstance(shape, dict):
        return shape
    plain = {
        key: _plain(value) for key, value in shape.items() if key not in ("title", "default", "description")
    }
    if "properties" in shape:
        plain["properties"] = {
            name: _plain(value) for name, value in shape["properties"].items() if not _is_secret(value)
        }
    return plain


def _is_secret(shape: dict[str, Any]) -> bool:
    return any(each.get("format") == "password" for each in shape.get("anyOf", [shape]))


if __name__ == "__main__":
    for path, text in built().items():
        path.write_text(text)
