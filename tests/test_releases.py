"""What lands and what is released goes through the same gates everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"
CI = (WORKFLOWS / "ci.yml").read_text()
RELEASE = (WORKFLOWS / "release.yml").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_github_runs_what_everybody_runs() -> None:
    assert re.search(r"^ +- run: \.ci/run$", CI, re.MULTILINE)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


def test_every_python_that_is_promised_is_tried() -> None:
    promised = [
        name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r"Python :: \d+\.\d+$", name)
    ]
    found = re.search(r"python: \[(.*)\]", CI)
    assert found
    assert re.findall(r"[\d.]+", found[1]) == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_rooms_that_are_tried_on_every_python_are_there() -> None:
    rooms = re.findall(r"tests/\w+", CI)
    assert len(rooms) > 4
    assert [room for room in rooms if not (ROOT / room).is_dir()] == []


def test_nothing_is_published_that_was_not_checked_or_with_a_secret() -> None:
    for check in ("twine check --strict", "check-wheel-contents", "govmiddleware demo", "uv version --short"):
        assert check in RELEASE
    assert RELEASE.count("needs: build") == 2
    assert "secrets." not in CI + RELEASE
    assert re.findall(r"id-token: write", RELEASE) == ["id-token: write"]


def test_what_runs_in_workflows_is_pinned_by_what_it_is_and_not_by_a_name_that_can_be_moved() -> None:
    used = re.findall(r"uses: (.*)", CI + RELEASE)
    assert len(used) > 8
    assert [action for action in used if not re.fullmatch(r"\S+@[0-9a-f]{40} # v[\d.]+", action)] == []


def test_the_chart_is_released_with_the_image_that_it_asks_for() -> None:
    chart = (ROOT / "helm" / "govmiddleware" / "Chart.yaml").read_text()
    assert set(re.findall(r"^(?:appV|v)ersion: (.*)$", chart, re.MULTILINE)) == {PROJECT["version"]}
    assert "VERSION=${GITHUB_REF_NAME#v}" in RELEASE
    assert re.search(r"tags: ghcr\.io/\S+ github\.repository }}:\$\{\{ env\.VERSION }}", RELEASE)


def test_workflows_may_read_and_nothing_else_unless_a_job_says_so() -> None:
    for workflow in (CI, RELEASE):
        assert re.search(r"^permissions: \{contents: read\}$", workflow, re.MULTILINE)
