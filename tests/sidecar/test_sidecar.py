"""What the sidecar does beside model calls: WebSockets, routes that nobody meters, the control plane."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from govmiddleware.testing import Script

Run = Callable[..., RunningSidecar]
HEADERS = {"authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize(("path", "status"), [("/v1/realtime", 403), ("/v1/responses", 426)])
def test_a_websocket_is_refused_in_its_handshake(run_sidecar: Run, path: str, status: int) -> None:
    sidecar = run_sidecar()
    url = sidecar.url.replace("http", "ws") + path
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=HEADERS):
        pass
    answer = refused.value.response
    assert answer.status_code == status
    assert json.loads(answer.body or b"")["error"]["code"] == "route_not_metered"
    assert sidecar.provider.exchanges == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_route_that_could_cost_is_refused_unless_the_setting_forwards_it(
    run_sidecar: Run, method: str
) -> None:
    refusing, forwarding = run_sidecar(), run_sidecar(unmetered_routes="forward")
    refused = httpx.request(method, f"{refusing.url}/v1/files", headers=HEADERS)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "route_not_metered")
    assert refusing.provider.exchanges == []
    assert httpx.request(method, f"{forwarding.url}/v1/files", headers=HEADERS).status_code == 404
    [exchange] = forwarding.provider.exchanges
    assert (exchange.method, exchange.path) == (method, "/v1/files")


def test_reads_are_forwarded_but_not_for_strangers(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    assert httpx.get(f"{sidecar.url}/v1/models").status_code == 401
    assert httpx.get(f"{sidecar.url}/v1/models", headers=HEADERS).status_code == 200
    assert len(sidecar.provider.exchanges) == 1


def test_reads_count_as_requests(run_sidecar: Run) -> None:
    limit = {"name": "one", "scope": "workspace", "meter": "requests", "window": "lifetime", "hard": 1}
    sidecar = run_sidecar(limits=[limit])
    statuses = [httpx.get(f"{sidecar.url}/v1/models", headers=HEADERS).status_code for _ in range(2)]
    assert statuses == [200, 429]


def test_the_model_that_litellm_names_in_a_header_is_the_one_that_served(
    run_sidecar: Run, gov_store: str
) -> None:
    sidecar = run_sidecar()
    sidecar.provider.script = Script(model="group", headers=((b"x-litellm-model-name", b"openai/gpt-4o"),))
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    httpx.post(f"{sidecar.url}/v1/chat/completions", json=body, headers=HEADERS)
    [record] = until(Books(gov_store).records)
    assert (record.model_requested, record.model_served) == ("gpt-4o-mini", "openai/gpt-4o")


def test_the_control_plane_is_not_forwarded(run_sidecar: Run) -> None:
    sidecar = run_sidecar(control_prefix="/ops")
    assert httpx.get(f"{sidecar.url}/ops/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{sidecar.url}/ops/nothing-here").status_code == 404
    assert sidecar.provider.exchanges == []


def test_metrics_count_what_passed_and_bound_their_labels(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    hello = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}
    for model in ("gpt-4o-mini", "made-up-1", "made-up-2"):
        httpx.post(f"{sidecar.url}/v1/chat/completions", json=hello | {"model": model}, headers=HEADERS)
    text = httpx.get(f"{sidecar.url}/gov/metrics").text
    named = 'model="%s",protocol="openai.chat",provider="default",status="%s"'
    requests = f"govmiddleware_requests_total{{{named}}} %s"
    assert requests % ("gpt-4o-mini", "2xx", "1.0") in text
    assert requests % ("other", "4xx", "2.0") in text
    assert "made-up" not in text
    assert 'govmiddleware_tokens_total{kind="output",model="gpt-4o-mini",provider="default"} 9.0' in text
