"""What pods are given is a configuration that govmiddleware takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from govmiddleware.cli.check import check
from govmiddleware.cli.root import app
from govmiddleware.settings import load
from tests.helm.rendering import SETS, container, of_kind, rendered, yaml

SECRETS = {
    "GOV_JOURNAL_URL": "postgresql://gov:secret@db/gov",
    "GOV_REDIS_URL": "rediss+cluster://gov:secret@redis-0,redis-1?ssl_ca_certs=/etc/redis-ca/ca.crt",
    "GOV_WEBHOOK_URL": "https://hooks.example.com/gov",
    "GOV_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}
"""What the Secrets may hold; others hold a long word."""


@pytest.mark.parametrize("name", SETS)
def test_the_configuration_passes_the_check(
    name: str,
    nothing_around: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [config] = [each for each in of_kind(name, "ConfigMap") if "govmiddleware.toml" in each["data"]]
    file = tmp_path / "govmiddleware.toml"
    file.write_text(config["data"]["govmiddleware.toml"])
    for variable, value in _environment(name):
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("GOV_CONFIG", str(file))
    assert check() == 0
    said = capsys.readouterr().out
    assert said.startswith("ok:")
    assert "there is no setting" not in said


def test_numbers_and_texts_arrive_as_they_were_written(
    nothing_around: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "govmiddleware.toml"
    text = yaml.safe_load(rendered("cluster")["configmap.yaml"])["data"]["govmiddleware.toml"]
    file.write_text(text)
    for variable, value in _environment("cluster"):
        monkeypatch.setenv(variable, value)
    [token] = load(file).api_tokens
    assert token.tags == {"team": "search", "cost centre": 'R&D "7"'}
    assert "journal_max_records = 5000000\n" in rendered("production")["configmap.yaml"]


@pytest.mark.parametrize("name", SETS)
def test_the_command_line_knows_the_arguments(name: str) -> None:
    command, bound, _ = app.parse_args(container(name)["args"], exit_on_error=False, print_error=False)
    assert command.__name__ == "serve"
    assert bound.arguments["port"] == 8080


def _environment(name: str) -> Iterator[tuple[str, str]]:
    """As the kubelet makes it: in order, `$(NAME)` expanded by what stands before."""
    known: dict[str, str] = {}
    for each in container(name)["env"]:
        secret = SECRETS.get(each["name"], "secret-" * 6)
        value = re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], each.get("value", secret))
        known[each["name"]] = value
        yield each["name"], value
