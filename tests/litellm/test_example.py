"""examples/litellm_config: its script really runs, and ends all that it started; its compose file fits what is there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.sidecar.waiting import until

from govmiddleware.cli.root import app, run

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/litellm_config"
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLE / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


# run_local.sh -------------------------------------------------------------------------------------


@pytest.fixture
def environment(litellm_command: Path, tmp_path: Path) -> Mapping[str, str]:
    """LiteLLM's is built already, and ours is the one that runs the tests."""
    if shutil.which("uv") is None:
        pytest.skip("run_local.sh needs uv")
    ours = {"VIRTUAL_ENV": sys.prefix, "GOVMIDDLEWARE_LITELLM": str(litellm_command.parent.parent)}
    return {**os.environ, **ours, "TMPDIR": str(tmp_path), "GOV_MODE": "dry_run"}  # GOV_: not its own


def start(environment: Mapping[str, str], output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as log:
        return subprocess.Popen([EXAMPLE / "run_local.sh"], stdout=log, stderr=log, env=environment)


def started(said: str) -> list[int]:
    return [int(pid) for pid in re.findall(r" is process (\d+)", said)]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(300)
def test_the_script_shows_a_whole_sidecar_at_work_and_ends_by_itself(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with start(environment, output) as process:
        code = process.wait(280)
    said = output.read_text()
    assert code == 0, said
    for shown in (
        r"ann +frail-model +openai/gpt-4o-mini +ok",
        r"Limit 'nightly-minute' \(requests per api_token, 60s\) is reached",
        r"Limit 'trial-month' .* is reached for user 'trial'",
        r"The model 'gpt-unheard-of' has no price here",
        r"mallory +gpt-4o +- +invalid_api_key",
        r"search +15 +3 ",
        r"ok: \d+ checked, 0 differences",
    ):
        assert re.search(shown, said), said
    if shutil.which("prometheus"):
        assert "and the journal has 15 answered requests" in said
    assert len(started(said)) >= 2
    assert not any(map(is_running, started(said)))
    assert [path for path in tmp_path.iterdir() if path != output] == [], "no file is left behind"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_script_ends_what_it_started_when_it_is_interrupted(
    environment: Mapping[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "output"
    with start(environment, output) as process:
        until(lambda: len(started(output.read_text())) >= 2, within=60)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert not any(map(is_running, started(output.read_text())))


# docker-compose.yml -------------------------------------------------------------------------------


def test_every_image_has_a_tag_and_every_service_a_health_check() -> None:
    assert set(SERVICES) == {"govmiddleware", "litellm", "valkey", "prometheus", "grafana"}
    for name, service in SERVICES.items():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+", service["image"]), name
        assert service["healthcheck"]["test"][0] == "CMD", name


def test_everything_that_is_mounted_or_built_is_there_and_every_volume_and_network_is_named() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (EXAMPLE / source).exists(), source
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", ())) <= set(SERVICES)
    [data] = re.findall(r"GOV_DATA_DIR=(\S+)", (ROOT / "Dockerfile").read_text())
    assert f"journal:{data}" in SERVICES["govmiddleware"]["volumes"]
    assert "GOV_DATA_DIR" not in SERVICES["govmiddleware"]["environment"]
    assert (EXAMPLE / SERVICES["litellm"]["build"]["context"] / "litellm.txt").is_file()


def test_no_network_leads_around_govmiddleware() -> None:
    assert "ports" not in SERVICES["litellm"]
    sharing = {name for name, service in SERVICES.items() if "models" in service["networks"]}
    assert sharing == {"govmiddleware", "litellm"}
    assert "front" not in SERVICES["litellm"]["networks"]


def test_every_variable_is_in_the_example_of_an_env_file_which_holds_no_value() -> None:
    used = set(re.findall(r"\$\{(\w+)", (EXAMPLE / "docker-compose.yml").read_text()))
    given = dict(re.findall(r"^(\w+)=(.*)$", (EXAMPLE / ".env.example").read_text(), re.MULTILINE))
    assert used == set(given)
    assert set(given.values()) == {""}
    assert (EXAMPLE / ".gitignore").read_text() == ".env\n"
    in_config = set(re.findall(r"os\.environ/(\w+)", (EXAMPLE / "config.yaml").read_text()))
    assert in_config <= set(SERVICES["litellm"]["environment"])


def test_our_command_takes_the_flags_and_our_configuration_is_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = SERVICES["govmiddleware"]
    _, bound, _ = app.parse_args(service["command"], exit_on_error=False, print_error=False)
    assert bound.arguments["host"] == "0.0.0.0"
    for name in list(os.environ):
        if name.startswith("GOV_"):
            monkeypatch.delenv(name)
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GOV_CONFIG")
    assert run(["check", "--config", str(EXAMPLE / "govmiddleware.toml")]) == 0
    assert capsys.readouterr().out.startswith("ok: 8 limits, 0 API tokens, 2 prices, 1 upstreams\n")


def test_prometheus_and_grafana_find_what_is_mounted() -> None:
    scraped = yaml.safe_load((EXAMPLE / "prometheus.yml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == ["govmiddleware:8080"]
    provisioning = EXAMPLE / "grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((provisioning / "dashboards/govmiddleware.yml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
