"""Metrics of several processes that are one service."""

from __future__ import annotations

import stat
from pathlib import Path
from signal import SIGHUP

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from tests.sidecar.conftest import SECRET
from tests.sidecar.load import BODY, Scrape
from tests.sidecar.processes import SidecarProcess, serve_processes
from tests.sidecar.waiting import until

from govmiddleware.core.ids import hash_api_token
from govmiddleware.errors import ConfigurationError
from govmiddleware.metrics import DIRECTORY, Metrics
from govmiddleware.testing import ScriptedProvider


@pytest.fixture
def config(tmp_path: Path, gov_store: str, gov_provider: tuple[ScriptedProvider, str]) -> Path:
    path = tmp_path / "govmiddleware.toml"
    path.write_text(
        f"""
        upstream = "{gov_provider[1]}"
        redis_url = "{gov_store}"
        [[api_tokens]]
        name = "ci"
        workspace = "acme"
        sha256 = "{hash_api_token(SECRET)}"
        """
    )
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where what we start makes its temporary files."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def call(sidecar: SidecarProcess) -> None:
    headers = {"authorization": f"Bearer {SECRET}"}
    url = f"{sidecar.url}/v1/chat/completions"
    assert httpx.post(url, json=BODY, headers=headers, timeout=20).status_code == 200


def test_processes_that_share_a_directory_of_the_operators_each_tell_of_all(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with gunicorn."""
    directory = tmp_path / "prometheus"
    directory.mkdir()
    monkeypatch.setenv(DIRECTORY, str(directory))
    with serve_processes(config, 2) as sidecars:
        for sidecar in sidecars:
            call(sidecar)
        for sidecar in sidecars:
            until(lambda url=sidecar.url: Scrape(url).sum("requests_total", status="2xx") == 2)  # type: ignore[misc]
            assert Scrape(sidecar.url).sum("open_reservations") == 0
            assert "process_cpu_seconds_total" not in httpx.get(f"{sidecar.url}/gov/metrics").text


def test_a_restart_leaves_no_more_files_than_there_were_workers_at_a_time(
    config: Path, temporary: Path
) -> None:
    with serve_processes(config, workers=2) as [sidecar]:
        [directory] = temporary.glob("govmiddleware-*")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        call(sidecar)
        sidecar.process.send_signal(SIGHUP)
        until(lambda: sidecar.log.read_text().count(" ended") == 2, within=60)
        call(sidecar)
        assert len(list(directory.glob("counter_*"))) == 3, (
            "the second new worker took the name of the first old one"
        )
        for kind in ("livesum", "livemax"):
            assert len(list(directory.glob(f"gauge_{kind}_*"))) == 2, "of those that live"
        assert Scrape(sidecar.url).sum("requests_total") == 2
    assert list(temporary.iterdir()) == []


def test_a_registry_of_the_apps_own_has_our_metrics_beside_its_own() -> None:
    registry = CollectorRegistry()
    Counter("orders", "Of the app.", registry=registry).inc()
    metrics = Metrics(registry)
    metrics.unsent_writes.inc()
    shown = metrics.exposition().decode()
    assert "orders_total 1.0" in shown
    assert "govmiddleware_unsent_writes 1.0" in shown
    assert "process_cpu_seconds_total" not in shown, "the app decides about those"


def test_a_single_process_tells_of_itself() -> None:
    shown = Metrics().exposition().decode()
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "python_gc_collections_total"):
        assert name in shown


def test_a_directory_that_does_not_exist_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DIRECTORY, str(tmp_path / "nowhere"))
    with pytest.raises(
        ConfigurationError, match=r"PROMETHEUS_MULTIPROC_DIR = .*nowhere.*: expected a directory"
    ):
        Metrics()
