"""The official openai SDK through us to LiteLLM: it must feel as if it spoke to LiteLLM."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai.types import CompletionUsage
from tests.litellm.conftest import SECRET, Gateway

from govmiddleware.services.records import Record
from govmiddleware.testing import Script, ScriptedProvider

HELLO: Any = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


def metered(record: Record) -> tuple[int, int]:
    """Input and output tokens of a call whose usage is known exactly."""
    assert (record.settlement, record.outcome) == ("exact", "answered")
    assert record.usage is not None
    return record.usage.input_tokens, record.usage.output_tokens


def reported(usage: CompletionUsage | None) -> tuple[int, int]:
    assert usage is not None
    return usage.prompt_tokens, usage.completion_tokens


@pytest.mark.parametrize(
    ("model", "content"),
    [
        ("gpt-4o-mini", "Hello, I am a mock."),
        ("gpt-3.5-turbo", "The quick brown fox jumps over the lazy dog."),
    ],
)
def test_an_answer_is_metered_as_litellm_reports_it(
    gateway: Gateway, provider: ScriptedProvider, model: str, content: str
) -> None:
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=model, **HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content == content
    assert metered(gateway.record(raw.headers)) == reported(answer.usage)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-3.5-turbo"])
def test_a_stream_without_include_usage_shows_none_and_is_metered_exactly(
    gateway: Gateway, provider: ScriptedProvider, model: str
) -> None:
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=model, stream=True, **HELLO)
        chunks = list(raw.parse())
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert chunks[-1].choices[0].finish_reason == "stop", "LiteLLM's chunk for usage comes after it"
    input_tokens, output_tokens = metered(gateway.record(raw.headers))
    assert input_tokens > 0
    assert output_tokens > 5


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-3.5-turbo"])
def test_a_stream_with_include_usage_shows_what_is_metered(
    gateway: Gateway, provider: ScriptedProvider, model: str
) -> None:
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    with gateway.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=model, **options, **HELLO)
        [usage] = [chunk.usage for chunk in raw.parse() if chunk.usage is not None]
    assert metered(gateway.record(raw.headers)) == reported(usage)


def test_tool_calls_arrive_whole(gateway: Gateway, provider: ScriptedProvider) -> None:
    arguments = '{"city": "Berlin"}'
    provider.script = Script(tool="get_weather", text=arguments)
    asked: Any = {**HELLO, "tools": [TOOL]}
    with gateway.client() as client:
        for model in ("gpt-4o", "gpt-3.5-turbo"):
            [call] = client.chat.completions.create(model=model, **asked).choices[0].message.tool_calls or []
            assert call.type == "function"
            assert (call.function.name, call.function.arguments) == ("get_weather", arguments)
        raw = client.chat.completions.with_raw_response.create(model="gpt-3.5-turbo", stream=True, **asked)
        deltas = [chunk.choices[0].delta for chunk in raw.parse()]
    functions = [call.function for delta in deltas for call in delta.tool_calls or [] if call.function]
    assert "".join(function.name or "" for function in functions) == "get_weather"
    assert "".join(function.arguments or "" for function in functions) == arguments
    assert metered(gateway.record(raw.headers))[1] == 2


def test_embeddings_work(gateway: Gateway, provider: ScriptedProvider) -> None:
    with gateway.client() as client:
        raw = client.embeddings.with_raw_response.create(model="text-embedding-3-small", input=["a b", "c"])
    answer = raw.parse()
    assert [len(one.embedding) for one in answer.data] == [1536, 1536]
    record = gateway.record(raw.headers)
    assert metered(record) == (answer.usage.prompt_tokens, 0) == (3, 0)
    assert record.cost_usd == "0.000000060"


def test_models_and_health_pass(gateway: Gateway, http: httpx.Client) -> None:
    with gateway.client() as client:
        assert {"gpt-4o-mini", "house-model"} <= {model.id for model in client.models.list()}
    assert http.get("/health/liveliness").json() == "I'm alive!"


@pytest.mark.parametrize(
    ("model", "raised", "said"),
    [
        ("gpt-4.1-nano", openai.RateLimitError, "mock rate limit error"),
        ("gpt-4.1-mini", openai.BadRequestError, "mock context window exceeded error"),
        ("gpt-4.1", openai.InternalServerError, "mock internal server error"),
        ("gpt-4-turbo", openai.BadRequestError, "Invalid model name passed in model=gpt-4-turbo"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_litellms_errors_are_the_sdks_own_and_cost_nothing(
    gateway: Gateway, model: str, raised: type[openai.APIStatusError], said: str, stream: bool
) -> None:
    with gateway.client() as client, pytest.raises(raised) as error:
        client.chat.completions.create(model=model, stream=stream, **HELLO)
    assert said in error.value.message
    assert error.value.response.headers["x-litellm-call-id"]
    record = gateway.record(error.value.response.headers)
    assert (record.cost_usd, record.outcome) == ("0.000000000", "upstream_error")
    assert record.status == error.value.status_code


def test_an_error_that_litellm_lets_be_retried_is_retried_by_the_sdk(
    gateway: Gateway, provider: ScriptedProvider
) -> None:
    provider.next(Script(status=503))
    with gateway.client(max_retries=2) as client:
        answer = client.chat.completions.create(model="gpt-3.5-turbo", **HELLO)
    assert answer.usage is not None
    assert len(provider.exchanges) == 2


def test_a_token_that_is_not_ours_never_reaches_litellm(gateway: Gateway) -> None:
    with (
        gateway.client(api_key=f"not-{SECRET}") as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.chat.completions.create(model="gpt-4o-mini", **HELLO)
    assert "x-litellm-call-id" not in refused.value.response.headers
