"""A real Prometheus scrapes a real server, evaluates the alert rules as they are, and draws the dashboard."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.observability.promql import RULES, panel_queries
from tests.observability.tools import SPARING, found
from tests.sidecar.conftest import SECRET, TOKEN
from tests.sidecar.processes import end, free_port
from tests.sidecar.waiting import until

from govmiddleware.app import Governance
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import Script, ScriptedProvider, serve_in_thread

SETTINGS: dict[str, Any] = {
    "api_tokens": [TOKEN],
    "limits": [
        {
            "name": "cents",
            "scope": "user",
            "value": "bob",
            "meter": "cost_usd",
            "window": "month",
            "hard": "0.000001",
        },
        {
            "name": "trial",
            "scope": "workspace",
            "meter": "requests",
            "window": "day",
            "hard": 1,
            "mode": "dry_run",
        },
    ],
}
PROMETHEUS = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: gov
    metrics_path: /gov/metrics
    static_configs: [{{targets: ["{target}"]}}]
"""
SHOW_NOTHING_YET = {
    "Learned factor",  # from fifty calls of a model on
}
"""Panels."""


class Prometheus:
    """Its HTTP API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(f"/api/v1{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def is_up(self) -> bool:
        try:
            return bool(self.query("up == 1"))
        except (httpx.TransportError, ValueError):
            return False

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.get("/query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        alerts = self.get("/alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    config = folder / "prometheus.yml"
    config.write_text(PROMETHEUS.format(rules=RULES, target=target))
    address = f"127.0.0.1:{free_port()}"
    command = [
        found("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log, httpx.Client(base_url=f"http://{address}") as client:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | SPARING)
        try:
            running = Prometheus(client)
            until(running.is_up, within=20)
            yield running
        finally:
            end(process)


def test_prometheus_fires_an_alert_and_the_dashboard_has_something_to_show(
    tmp_path: Path,
    make_governance: Callable[..., Governance],
    gov_provider: tuple[ScriptedProvider, str],
) -> None:
    found("prometheus")
    provider, upstream = gov_provider
    app = Sidecar(make_governance(upstream=upstream, **SETTINGS))
    with (
        serve_in_thread(app) as server,
        prometheus(f"{server.host}:{server.port}", tmp_path) as running,
        httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {SECRET}"}) as client,
    ):

        def ask(model: str = "gpt-4o-mini", **fields: object) -> int:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 9,
                **fields,
            }
            return client.post("/v1/chat/completions", json=body).status_code

        def ask_everything() -> None:
            assert [ask(), ask(stream=True), ask(user="bob")] == [200, 200, 429]
            provider.next(Script(status=503))
            provider.next(Script(breaks_after=2))
            assert [ask(), ask(stream=True)] == [503, 200]

        assert running.firing() == set()
        ask_everything()
        until(lambda: running.query("govmiddleware_upstream_failures_total"), within=10)
        ask_everything()
        assert ask(model="a-model-without-a-price") == 400

        until(lambda: "GovmiddlewarePriceUnknown" in running.firing(), within=10)
        budgets = {"GovmiddlewareBudgetNearExhaustion", "GovmiddlewareBudgetExhausted"}
        assert running.firing() == {"GovmiddlewarePriceUnknown", *budgets}
        health = {
            rule["name"]: rule["health"]
            for group in running.get("/rules")["groups"]
            for rule in group["rules"]
        }
        assert set(health.values()) == {"ok"}

        empty = {query.place[:-2] for query in panel_queries() if not running.query(query.expression)}
        assert empty == SHOW_NOTHING_YET
