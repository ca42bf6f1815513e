"""The chart, rendered by Helm itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

helm = pytest.importorskip("helm_python", reason="needs Helm: uv sync --group helm")
yaml = pytest.importorskip("yaml", reason="needs PyYAML: uv sync --group helm")

CHART = Path(__file__).parents[2] / "helm" / "govmiddleware"
SETS = {path.stem: path for path in sorted((Path(__file__).parent / "values").glob("*.yaml"))}
NOTES = "NOTES.txt"

Object = dict[str, Any]


def values_of(name: str) -> dict[str, Any]:
    """One of the value sets in `values/`."""
    return dict(helm.values_from_yaml(SETS[name].read_text()))


def render(values: Mapping[str, Any]) -> dict[str, str]:
    """What each template makes of the values, those that make nothing left out."""
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="gov", namespace="llm")
    return {Path(path).name: text.strip() for path, text in sorted(rendered.items()) if text.strip()}


@cache
def rendered(name: str) -> dict[str, str]:
    return render(values_of(name))


def objects_in(texts: Mapping[str, str]) -> list[Object]:
    return [
        each
        for template, text in texts.items()
        if template != NOTES
        for each in yaml.load_all(text, yaml.CSafeLoader)
        if each
    ]


@cache
def objects(name: str) -> list[Object]:
    """The objects of a value set."""
    return objects_in(rendered(name))


def of_kind(name: str, kind: str) -> list[Object]:
    return [each for each in objects(name) if each["kind"] == kind]


def deployment(name: str) -> Object:
    [found] = of_kind(name, "Deployment")
    return found


def container(name: str) -> Object:
    """govmiddleware's."""
    [found] = deployment(name)["spec"]["template"]["spec"]["containers"]
    return dict(found)
