"""The official openai SDK through us to LiteLLM: it must feel as if it spoke to LiteLLM."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest
from tests.litellm.conftest import Gateway
from tests.sidecar.waiting import until

from govmiddleware.services.records import TokenUsage
from govmiddleware.testing import Script, ScriptedProvider

HELLO: Any = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


def test_an_answer_is_metered_as_litellm_reports_it(gateway: Gateway) -> None:
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", **HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello, I am a mock."
    record = gateway.record(raw.headers)
    assert answer.usage is not None
    assert record.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 20)
    assert (record.usage.input_tokens, record.usage.output_tokens) == (10, 20)
    assert (record.settlement, record.outcome) == ("exact", "answered")


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-3.5-turbo"])
def test_a_stream_without_include_usage_shows_none_and_is_metered_exactly(
    gateway: Gateway, provider: ScriptedProvider, model: str
) -> None:
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=model, stream=True, **HELLO)
        chunks = list(raw.parse())
    assert chunks[-1].choices[0].finish_reason == "stop", "LiteLLM's chunk for usage was not asked for"
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    record = gateway.record(raw.headers)
    assert record.settlement == "exact"
    assert record.usage is not None
    assert record.usage.output_tokens > 5


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-3.5-turbo"])
def test_a_stream_with_include_usage_shows_what_is_metered(
    gateway: Gateway, provider: ScriptedProvider, model: str
) -> None:
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(
            model=model, stream=True, stream_options={"include_usage": True}, **HELLO
        )
        [usage] = [chunk.usage for chunk in raw.parse() if chunk.usage is not None]
    record = gateway.record(raw.headers)
    assert record.usage is not None
    assert record.usage.input_tokens == usage.prompt_tokens
    assert record.usage.output_tokens == usage.completion_tokens
