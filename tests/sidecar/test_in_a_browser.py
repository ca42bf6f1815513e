"""The way past a limit as people go it, in a real browser: the refusal's link, the form, the approver, the call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.sidecar.conftest import RunningSidecar
from tests.sidecar.people import NOBODY, PEOPLE, Client

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    "--no-sandbox",  # which root has none of
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

sync_api = pytest.importorskip("playwright.sync_api", reason="uv sync --group browser installs playwright")


@pytest.fixture
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(
            f"there is no Chromium at {CHROMIUM}: Debian's package brings it, or CHROMIUM says where it is"
        )
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


def test_from_the_refusal_to_the_call_that_passes(
    run_sidecar: Callable[..., RunningSidecar], browser: Any
) -> None:
    sidecar = run_sidecar(api_tokens=PEOPLE, limits=[NOBODY])
    bob = Client("bob", sidecar.url)
    refusal = httpx.get(f"{sidecar.url}/v1/models", headers=bob.headers)
    public, link = sidecar.governance.settings.public_url, refusal.json()["error"]["override_url"]

    page = browser.new_page(viewport={"width": 360, "height": 640})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(link.replace(public, sidecar.url))
    page.get_by_label("Amount past the limit").fill("1")
    page.get_by_label("For how long").select_option("15 minutes")
    page.get_by_label("Why").fill("the release")
    page.get_by_role("button", name="Ask for it").click()
    page.get_by_role("link", name="1 request more for 15 minutes").click()

    page.get_by_label("Your API token").fill("bobs-other")
    page.get_by_role("button", name="Approve").click()
    assert "Nobody approves" in page.get_by_role("alert").inner_text()
    page.get_by_label("Your API token").fill("alice")
    page.get_by_role("button", name="Approve").click()
    assert "Your approval is recorded" in page.get_by_role("status").inner_text()

    assert [bob.call(), bob.call()] == [200, 429]
    is_styled = "getComputedStyle(document.querySelector('main')).maxWidth != 'none'"
    assert page.evaluate(is_styled), "the stylesheet is let in by the policy"
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert not [each for each in complaints if "Content Security Policy" in each]
