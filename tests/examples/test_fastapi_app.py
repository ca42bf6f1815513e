"""examples/fastapi_app: one endpoint governed, with the calls that it makes; the others as they were."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from tests.examples.conftest import Example
from tests.sidecar.books import Books

from govmiddleware.testing import ScriptedProvider, serve_in_thread


@pytest.fixture
def app(example: Callable[[str], Example], monkeypatch: pytest.MonkeyPatch, provider_url: str) -> Example:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider_url}/v1")
    return example("fastapi_app")


def test_the_endpoint_and_its_call_count_for_who_asked(
    app: Example, provider: ScriptedProvider, books: Books
) -> None:
    with serve_in_thread(app.run("app.py")["app"]) as server:
        summary, health = app.requests("app.py", server.url)
        wrong = httpx.post(f"{server.url}/summaries", json={}, headers=app.authorization)
        stranger = httpx.post(f"{server.url}/summaries", json={"text": "It was."})
    assert (summary.status_code, summary.json()) == (200, {"summary": provider.script.text})
    assert (health.status_code, health.json()) == (200, {"ok": True})
    assert (wrong.status_code, stranger.status_code) == (422, 401)
    assert "x-gov-request-id" not in health.headers
    inner, outer, _ = books.records()
    assert (inner.user, inner.settlement, inner.parent_request_id) == ("ann", "exact", outer.request_id)
    assert books.audit().ok


def test_a_spent_budget_is_the_callers_to_see(app: Example, provider: ScriptedProvider) -> None:
    app.change("govmiddleware.toml", "hard = 10.0", "hard = 0.0")
    with serve_in_thread(app.run("app.py")["app"]) as server:
        [refused, _] = app.requests("app.py", server.url)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert "user-month" in refused.json()["error"]["message"]
    assert provider.exchanges == []
