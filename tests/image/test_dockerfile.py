"""The Dockerfile without building it: what it copies, installs and starts is there, and as the chart has it."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from govmiddleware.cli.root import app
from govmiddleware.settings import Settings

PROJECT = Path(__file__).parents[2]
EXTRAS = ("server", "fast", "embedded", "cli", "postgres", "otel")


def instructions() -> list[tuple[str, str]]:
    """Each with what it is given, in order."""
    text = (PROJECT / "Dockerfile").read_text()
    lines = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    joined = lines.replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last(name: str) -> str:
    return [rest for each, rest in instructions() if each == name][-1]


def pins(file: str) -> dict[str, str]:
    text = (PROJECT / "requirements" / file).read_text().replace("\\\n", " ")
    return {canonicalize_name(line.split("==")[0]): line for line in text.splitlines() if "==" in line}


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    let_in = [
        line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from=")
        for source in shlex.split(rest)[:-1]
    ]
    assert sorted(copied) == sorted(let_in)
    assert all((PROJECT / source).exists() for source in copied)


def test_what_it_starts_is_a_command_of_ours_and_its_health_is_where_it_is_asked_for() -> None:
    assert json.loads(last("ENTRYPOINT")) == ["govmiddleware"]
    command, bound, _ = app.parse_args(json.loads(last("CMD")), exit_on_error=False, print_error=False)
    assert command.__name__ == "serve"
    assert bound.arguments["host"] == "0.0.0.0"
    health = last("HEALTHCHECK")
    port = last("EXPOSE")
    assert f"http://127.0.0.1:{port}{Settings.model_fields['control_prefix'].default}/healthz" in health
    assert port == "8080"  # serve's default
    compile(json.loads(health[health.index("[") :])[2], "HEALTHCHECK", "exec")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_pinned_requirements_are_all_that_the_image_needs(machine: str) -> None:
    [tag] = [rest for name, rest in instructions() if name == "ARG" and rest.startswith("PYTHON=")]
    version = tag.removeprefix("PYTHON=").split("-")[0]
    there = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "sys_platform": "linux",
    }
    pinned = pins("runtime.txt")
    for text in requires("govmiddleware") or []:
        wanted = Requirement(text)
        if wanted.marker is None or any(
            wanted.marker.evaluate({**there, "extra": extra}) for extra in EXTRAS
        ):
            pin = Requirement(pinned[canonicalize_name(wanted.name)].split("--hash")[0].strip())
            assert wanted.specifier.contains(next(iter(pin.specifier)).version), text
            assert pin.marker is None or pin.marker.evaluate({**there, "extra": ""}), text


@pytest.mark.parametrize("file", ["runtime.txt", "build.txt"])
def test_every_requirement_has_its_hashes(file: str) -> None:
    assert pins(file)
    assert [line for line in pins(file).values() if "--hash=sha256:" not in line] == []


def test_the_chart_runs_it_as_the_same_user_on_the_same_folder() -> None:
    user, group = last("USER").split(":")
    chart = PROJECT / "helm" / "govmiddleware"
    assert f"runAsUser: {user}\n  runAsGroup: {group}\n" in (chart / "values.yaml").read_text()
    assert f"mountPath: {last('VOLUME')}}}" in (chart / "templates" / "_containers.tpl").read_text()
