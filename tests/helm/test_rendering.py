"""Every value set in `values/`, rendered: what Kubernetes, Helm and reviewers would say of it.

What a change of the chart does to the objects is seen in `golden/`. Write it anew with

    UPDATE_GOLDEN=1 uv run --group helm pytest tests/helm
"""

from __future__ import annotations

import os
import textwrap
from functools import cache
from pathlib import Path

import pytest

from tests.helm.custom_kinds import SHAPES
from tests.helm.rendering import CHART, NOTES, SETS, helm, objects, rendered, values_of

GOLDEN = Path(__file__).parent / "golden"
OLDEST = "1.30"

jsonschema = pytest.importorskip("jsonschema", reason="needs uv sync --group helm")
kubernetes = pytest.importorskip("kubernetes_validate.utils", reason="needs uv sync --group helm")
kubernetes.schema_contents = cache(kubernetes.schema_contents)  # it reads 2 MB anew for each object

each_set = pytest.mark.parametrize("name", SETS)


def test_there_are_at_least_eight_value_sets() -> None:
    assert len(SETS) >= 8


@each_set
def test_kubernetes_accepts_every_object(name: str) -> None:
    for each in objects(name):
        shape = SHAPES.get((each["apiVersion"], each["kind"]))
        if shape is not None:
            jsonschema.validate(each, shape)
            continue
        for version in (OLDEST, kubernetes.latest_version()):
            kubernetes.validate(each, version, strict=True)


@each_set
def test_helm_finds_nothing_to_warn_of(name: str) -> None:
    messages = helm.lint(CHART, values_of(name), strict=True, namespace="llm")["messages"]
    assert [each for each in messages if each["error"] != "icon is recommended"] == []


@each_set
def test_the_objects_are_as_they_were(name: str) -> None:
    text = "".join(
        f"# Source: {template}\n{_without_copies(text)}\n---\n"
        for template, text in rendered(name).items()
        if template != NOTES
    )
    golden = GOLDEN / f"{name}.yaml"
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(text)
    assert text == golden.read_text()


def test_there_is_no_golden_file_of_a_value_set_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(SETS)


def _without_copies(text: str) -> str:
    """Without the dashboard and the alerts, which stand elsewhere and change more often."""
    for copy in (CHART / "files").iterdir():
        for indent in ("  ", "    "):
            content = textwrap.indent(copy.read_text().strip(), indent, lambda line: True)
            text = text.replace(content, f"{indent}# {copy.name}")
    return text
