"""The official openai SDK through the sidecar: it must feel at home."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from tests.sidecar.conftest import RunningSidecar

from govmiddleware.testing import Script

HELLO: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
Run = Callable[..., RunningSidecar]


def test_an_answer_comes_back_with_its_usage_and_our_headers(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    with sidecar.client() as client:
        raw = client.chat.completions.with_raw_response.create(**HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content == "The quick brown fox jumps over the lazy dog."
    assert answer.usage is not None
    assert raw.headers["x-gov-request-id"].startswith("req_")
    assert re.fullmatch(r"0\.0000\d{5}", raw.headers["x-gov-estimated-cost-usd"])
    [exchange] = sidecar.provider.exchanges
    assert exchange.header(b"authorization") == b"Bearer sk-upstream"
    assert exchange.header(b"x-request-id") == raw.headers["x-gov-request-id"].encode()


def test_a_stream_comes_piece_by_piece(run_sidecar: Run) -> None:
    with run_sidecar().client() as client:
        deltas = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(**HELLO, stream=True)
            if chunk.choices
        ]
    assert "".join(deltas) == "The quick brown fox jumps over the lazy dog."
    assert len([delta for delta in deltas if delta]) == 5


def test_a_tool_call_arrives_whole(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    sidecar.provider.script = Script(tool="get_weather", text='{"city": "Berlin"}')
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    with sidecar.client() as client:
        answer = client.chat.completions.create(**HELLO, tools=[tool])
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].function.arguments == '{"city": "Berlin"}'
        streamed = ""
        for chunk in client.chat.completions.create(**HELLO, tools=[tool], stream=True):
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                streamed += (call.function and call.function.arguments) or ""
    assert streamed == '{"city": "Berlin"}'


def test_embeddings_and_models_work(run_sidecar: Run) -> None:
    with run_sidecar().client() as client:
        embedding = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
        models = client.models.list()
    assert len(embedding.data) == 2
    assert "gpt-4o-mini" in [model.id for model in models.data]


def test_a_route_that_nobody_meters_is_refused_by_name(run_sidecar: Run) -> None:
    with run_sidecar().client() as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.post("/rerank", cast_to=object, body={"model": "m", "query": "a cat"})
    assert refused.value.code == "route_not_metered"


def test_a_rate_refusal_is_retried_by_the_sdk_and_then_succeeds(run_sidecar: Run) -> None:
    limit = {"name": "rate", "scope": "api_token", "meter": "requests", "rate": "1/second"}
    sidecar = run_sidecar(limits=[limit])
    with sidecar.client(max_retries=0) as hasty, sidecar.client(max_retries=2) as patient:
        hasty.chat.completions.create(**HELLO)
        with pytest.raises(openai.RateLimitError) as refused:
            hasty.chat.completions.create(**HELLO)
        headers = refused.value.response.headers
        assert refused.value.code == "rate_limit_exceeded"
        assert 0 < int(headers["retry-after-ms"]) <= 1100
        assert headers["x-ratelimit-limit-requests"] == "1"
        started = time.monotonic()
        assert patient.chat.completions.create(**HELLO).usage is not None
        assert time.monotonic() - started < 5
    assert len(sidecar.provider.exchanges) == 2


def test_a_budget_refusal_is_not_retried(run_sidecar: Run) -> None:
    limit = {"name": "poor", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 0.00001}
    sidecar = run_sidecar(limits=[limit])
    started = time.monotonic()
    with sidecar.client(max_retries=5) as client, pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(**HELLO, user="ann")
    assert time.monotonic() - started < 2
    assert refused.value.code == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"
    [failed] = refused.value.body["limits"]  # type: ignore[index,call-overload]
    assert (failed["name"], failed["value"], failed["maximum"]) == ("poor", "ann", "0.000010000")
    assert sidecar.provider.exchanges == []


def test_a_bad_token_is_an_authentication_error(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    with (
        sidecar.client().with_options(api_key="nobody") as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.chat.completions.create(**HELLO)
    assert refused.value.code == "invalid_api_key"
    assert sidecar.provider.exchanges == []


def test_an_upstream_error_arrives_as_it_was(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    sidecar.provider.next(Script(status=400, body=b'{"error": {"message": "no", "code": "odd"}}'))
    with sidecar.client() as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**HELLO)
    assert refused.value.code == "odd"
