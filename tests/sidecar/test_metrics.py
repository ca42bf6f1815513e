"""Metrics of real requests: how streams end, what upstreams fail at, what was reserved and what was used."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.load import Scrape
from tests.sidecar.waiting import until

from govmiddleware.testing import Script, ScriptedProvider
from govmiddleware.testing.bell import Gate

Run = Callable[..., RunningSidecar]
HEADERS = {"authorization": f"Bearer {SECRET}"}
BODY: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 90,
}


def ask(sidecar: RunningSidecar, **fields: Any) -> int:
    url = f"{sidecar.url}/v1/chat/completions"
    return httpx.post(url, json=BODY | fields, headers=HEADERS).status_code


def used(prompt_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt_tokens, "completion_tokens": 10, "total_tokens": prompt_tokens + 10}


def scrape(sidecar: RunningSidecar, *, ended: int) -> Callable[..., float]:
    """What the metrics say once so many requests have ended, for the server too."""

    def look() -> Scrape | None:
        found = Scrape(sidecar.url)
        return found if found.sum("requests_total") == ended else None

    return until(look).sum


def test_streams_are_counted_by_their_ends(run_sidecar: Run) -> None:
    limit = {"name": "bobs", "scope": "user", "value": "bob", "meter": "output_tokens", "window": "day"}
    sidecar = run_sidecar(limits=[limit | {"hard": 40}], slice_output_tokens=20)
    url = f"{sidecar.url}/v1/chat/completions"
    gate = Gate()
    gate.let(1)
    sidecar.provider.next(Script(gate=gate))
    with httpx.stream("POST", url, json=BODY | {"stream": True}, headers=HEADERS) as answer:
        next(answer.iter_bytes())  # and leave
    ask(sidecar, stream=True)
    sidecar.provider.next(Script(breaks_after=3))
    ask(sidecar, stream=True)
    sidecar.provider.next(Script(text="word " * 90, pieces=90))
    ask(sidecar, stream=True, user="bob")
    sidecar.provider.next(Script(status=500))
    ask(sidecar, stream=True)
    sidecar.provider.next(Script(status=500))
    gemini = (
        "v1beta/models/gemini-2.5-flash:streamGenerateContent"  # whose streams are JSON, as its errors are
    )
    httpx.post(f"{sidecar.url}/{gemini}", json={"contents": []}, headers=HEADERS)
    ask(sidecar)
    metric = scrape(sidecar, ended=7)
    for end in ("whole", "client_left", "upstream_cut", "limit"):
        assert metric("streams_total", protocol="openai.chat", end=end) == 1, end
    assert metric("streams_total") == 4, "an error is no stream"
    assert metric("upstream_failures_total", provider="default", code="upstream_cut") == 1
    assert metric("upstream_failures_total", provider="default", code="500") == 2
    assert metric("time_to_first_chunk_seconds_count") == 4


def test_the_first_chunk_is_timed_of_streams_alone(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    ask(sidecar)
    sidecar.provider.next(Script(delay=0.05, pieces=2, interval=0.1))
    ask(sidecar, stream=True)
    metric = scrape(sidecar, ended=2)
    labels = {"protocol": "openai.chat", "provider": "default"}
    assert metric("time_to_first_chunk_seconds_count", **labels) == 1
    assert metric("request_duration_seconds_count", **labels) == 2
    first, all_of_both = metric("time_to_first_chunk_seconds_sum"), metric("request_duration_seconds_sum")
    assert 0.05 <= first <= all_of_both - 0.1, "before the second"


@pytest.fixture
def closed_port() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_failures_are_counted_by_upstream_and_what_it_failed_at(
    run_sidecar: Run, gov_provider: tuple[ScriptedProvider, str], closed_port: str
) -> None:
    provider, url = gov_provider
    upstreams = [
        {"name": "away", "url": closed_port, "models": ["o1*"]},
        {"name": "slow", "url": url, "first_byte_timeout": 0.2},
    ]
    sidecar = run_sidecar(upstream=None, upstream_api_key=None, upstreams=upstreams)
    assert ask(sidecar, model="o1") == 502
    for script in (Script(never_answers=True), *(Script(status=status) for status in (503, 429, 400))):
        provider.next(script)
    assert [ask(sidecar) for _ in range(4)] == [504, 503, 429, 400]
    failures = partial(scrape(sidecar, ended=5), "upstream_failures_total")
    assert failures(provider="away", code="upstream_unreachable") == failures(provider="away") == 1
    for code in ("upstream_timeout", "503", "429"):
        assert failures(provider="slow", code=code) == 1, code
    assert failures(provider="slow") == 3, "400 is the request's own fault"


def test_what_was_reserved_stands_beside_what_was_used_and_what_is_more_is_debt(run_sidecar: Run) -> None:
    price = {"model": "gpt-4o-mini", "input_usd_per_mtok": 1000, "output_usd_per_mtok": 2000}
    sidecar = run_sidecar(prices=[price])
    for prompt_tokens in (8, 5000):  # the second is far past its bound
        sidecar.provider.next(Script(usage=used(prompt_tokens)))
        ask(sidecar)
    metric = scrape(sidecar, ended=2)
    served = {"provider": "default", "model": "gpt-4o-mini"}
    assert metric("tokens_total", kind="input", **served) == 5008
    assert metric("cost_usd_total", **served) == pytest.approx(5.008 + 0.04)
    reserved_input = metric("reserved_tokens_total", kind="input", **served)
    assert 16 <= reserved_input < 200
    assert metric("reserved_tokens_total", kind="output", **served) == 180
    assert metric("reserved_usd_total", **served) == pytest.approx(reserved_input / 1000 + 0.36)
    assert metric("debt_usd_total", **served) == pytest.approx(5.02 - metric("reserved_usd_total") / 2)
    assert metric("settlements_total", settlement="exact") == 2


def test_the_estimates_error_is_shown_where_the_provider_says_what_the_input_was(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    for prompt_tokens, content in ((8, "Hello"), (800, "Hello"), (900, [picture])):
        sidecar.provider.next(Script(usage=used(prompt_tokens)))
        assert ask(sidecar, messages=[{"role": "user", "content": content}]) == 200
    metric = scrape(sidecar, ended=3)
    assert metric("estimate_ratio_count", protocol="openai.chat") == 2, (
        "nobody knows how large the picture is"
    )
    assert metric("estimate_ratio_bucket", le="1.2") == metric("estimate_ratio_bucket", le="4.0") == 1
