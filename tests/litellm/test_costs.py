"""What we settle beside what LiteLLM says that a call cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from tests.litellm.conftest import Gateway

from govmiddleware.services.records import Record
from govmiddleware.testing import ScriptedProvider

HELLO: Any = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
CHAT = "/v1/chat/completions"


def cost(record: Record) -> Decimal:
    return Decimal(record.cost_usd or "NaN")


def litellms_cost(answer: httpx.Response) -> Decimal:
    """To 9 places, as ours: LiteLLM writes a float, such as 0.00022500000000000002."""
    return round(Decimal(answer.headers["x-litellm-response-cost"]), 9)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4o", "gpt-3.5-turbo"])
def test_for_a_model_that_both_price_the_costs_agree(
    gateway: Gateway, http: httpx.Client, provider: ScriptedProvider, model: str
) -> None:
    answer = http.post(CHAT, json={"model": model, **HELLO})
    assert cost(gateway.record(answer.headers)) == litellms_cost(answer) > 0


def test_embeddings_cost_the_same_too(
    gateway: Gateway, http: httpx.Client, provider: ScriptedProvider
) -> None:
    body = {"model": "text-embedding-3-small", "input": "some words that are embedded"}
    answer = http.post("/v1/embeddings", json=body)
    assert cost(gateway.record(answer.headers)) == litellms_cost(answer) > 0


def test_the_cost_of_a_stream_is_in_its_usage_alone(
    gateway: Gateway, http: httpx.Client, provider: ScriptedProvider
) -> None:
    body = {"model": "gpt-3.5-turbo", "stream": True, "stream_options": {"include_usage": True}, **HELLO}
    answer = http.post(CHAT, json=body)
    assert "x-litellm-response-cost" not in answer.headers
    assert f'"cost":{cost(gateway.record(answer.headers)).normalize():f}' in answer.text


def test_a_model_group_costs_what_the_deployment_does_that_served_and_the_journal_names_it(
    gateway: Gateway, http: httpx.Client
) -> None:
    served = set()
    for _ in range(40):  # which of its two deployments serves is LiteLLM's choice
        answer = http.post(CHAT, json={"model": "house-model", **HELLO})
        assert answer.json()["model"] == "house-model"
        record = gateway.record(answer.headers)
        assert (record.model_requested, record.model_served) == (
            "house-model",
            answer.headers["x-litellm-model-name"],
        )
        assert cost(record) == litellms_cost(answer)
        assert record.bound is not None
        assert Decimal(record.bound["cost_usd"]) > Decimal("0.000225"), "the dearest is reserved"
        served.add(record.model_served)
        if len(served) == 2:
            break
    assert served == {"openai/gpt-4o-mini", "openai/gpt-4o"}


def test_a_model_group_without_a_price_is_refused(gateway: Gateway) -> None:
    with gateway.client() as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="other-group", **HELLO)
    assert refused.value.code == "model_not_priced"
    assert "x-litellm-call-id" not in refused.value.response.headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_fallback_costs_what_the_model_does_that_served(
    gateway: Gateway, http: httpx.Client, stream: bool
) -> None:
    answer = http.post(CHAT, json={"model": "frail-model", "stream": stream, **HELLO})
    assert answer.headers["x-litellm-attempted-fallbacks"] == "1"
    record = gateway.record(answer.headers)
    assert (record.model_requested, record.model_served) == ("frail-model", "openai/gpt-4o")
    assert record.usage is not None
    input_cost = record.usage.input_tokens * Decimal("0.0000025")
    assert cost(record) == input_cost + record.usage.output_tokens * Decimal("0.00001")
