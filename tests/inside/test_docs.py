"""The examples of docs/inside.md, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.sidecar.books import Books

from govmiddleware.core.ids import hash_api_token
from govmiddleware.testing import ScriptedProvider, serve_in_thread

PAGE = (Path(__file__).parents[2] / "docs" / "inside.md").read_text()
SETTINGS = f"""
[[api_tokens]]
name = "ci"
workspace = "default"
sha256 = "{hash_api_token("open sesame")}"

[[limits]]
name = "month"
scope = "workspace"
meter = "cost_usd"
window = "month"
hard = HARD
"""


def example(containing: str) -> str:
    [found] = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if containing in code]
    return str(found)


@pytest.fixture
def folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    provider: ScriptedProvider,
    provider_url: str,
    gov_store: str,
) -> Path:
    """Where the examples run, and their environment."""
    (tmp_path / "govmiddleware.toml").write_text(SETTINGS.replace("HARD", "1"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOV_REDIS_URL", gov_store)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider_url}/v1")
    return tmp_path


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store, "default")


def run(code: str) -> dict[str, Any]:
    """The names that an example leaves."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "inside.md", "exec"), names)
    return names


def test_the_app(folder: Path, provider: ScriptedProvider, books: Books) -> None:
    app = run(example("DefaultAsyncHttpxClient"))["app"]
    with serve_in_thread(app) as server:
        assert httpx.post(f"{server.url}/ask", content="Who goes there?").status_code == 401
        token = {"authorization": "Bearer open sesame"}
        answer = httpx.post(f"{server.url}/ask", content="Who goes there?", headers=token)
        assert (answer.status_code, answer.text) == (200, provider.script.text)
        inner, outer = books.records()
    assert (inner.model_requested, inner.parent_request_id) == ("gpt-4o-mini", outer.request_id)


def test_the_script(folder: Path, provider: ScriptedProvider, books: Books, capsys: Any) -> None:
    run(example("DefaultHttpxClient"))
    assert capsys.readouterr().out == f"{provider.script.text}\n"
    [record] = books.records()
    assert (record.user, record.settlement) == ("reports", "exact")


def test_the_block(folder: Path, books: Books, capsys: Any) -> None:
    run(example("governance.call("))
    assert capsys.readouterr().out == "A summary.\n" * 2
    assert [(record.session, record.agent) for record in books.records()] == [("run-7", "summariser")] * 2
    (folder / "govmiddleware.toml").write_text(SETTINGS.replace("HARD", "0"))
    run(example("governance.call("))
    assert capsys.readouterr().out.startswith("Limit 'month'")
