"""The mock provider is taken for OpenAI by OpenAI's own SDK, and does what its script says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from govmiddleware.testing.provider import Script, ScriptedProvider

HELLO = [{"role": "user", "content": "Say hello to everybody"}]


@pytest.fixture
def provider(upstream_server) -> ScriptedProvider:
    upstream_server.app = ScriptedProvider()
    return upstream_server.app


@pytest.fixture
async def sdk(upstream_server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{upstream_server.url}/v1", api_key="sk-x", max_retries=0) as sdk:
        yield sdk


async def test_a_completion_counts_words_as_tokens(provider: ScriptedProvider, sdk) -> None:
    answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, n=2)
    assert [choice.message.content for choice in answer.choices] == [provider.script.text] * 2
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-4o"
    assert answer.id.startswith("chatcmpl-")
    assert answer.system_fingerprint.startswith("fp_")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        4,
        18,
        22,
    )


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_output_limit_is_kept(provider: ScriptedProvider, sdk, name: str) -> None:
    answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, **{name: 3})
    assert answer.choices[0].message.content == "The quick brown"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


async def test_a_stream_adds_up_to_the_text_and_does_not_mention_usage(
    provider, sdk, upstream_server
) -> None:
    stream = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, n=2, stream=True)
    texts, reasons = ["", ""], []
    async for chunk in stream:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        reasons += [choice.finish_reason] if choice.finish_reason else []
    assert texts == [provider.script.text] * 2
    assert reasons == ["stop", "stop"]
    raw = await raw_events(upstream_server.url, {"stream": True})
    assert not any("usage" in event for event in raw)


async def test_usage_in_a_stream_is_null_until_a_last_chunk_without_choices(
    provider, upstream_server
) -> None:
    raw = await raw_events(upstream_server.url, {"stream": True, "stream_options": {"include_usage": True}})
    assert [event["usage"] for event in raw[:-1]] == [None] * (len(raw) - 1)
    assert all(event["choices"] for event in raw[:-1])
    assert raw[-1]["choices"] == []
    assert raw[-1]["usage"]["total_tokens"] == 13


async def raw_events(url: str, options: dict[str, object]) -> list[dict[str, object]]:
    async with httpx.AsyncClient(verify=False) as client:
        body = {"model": "gpt-4o", "messages": HELLO, **options}
        answer = await client.post(f"{url}/any/prefix/chat/completions", json=body)
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def test_a_tool_is_called_where_the_script_says_so(provider: ScriptedProvider, sdk) -> None:
    provider.script = Script(tool="weather", text='{"city": "Ulm", "days": 3}')
    answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "weather",
        {"city": "Ulm", "days": 3},
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    stream = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    deltas = [chunk.choices[0].delta async for chunk in stream]
    calls = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert calls[0].function.name == "weather"
    assert "".join(call.function.arguments for call in calls) == provider.script.text


async def test_embeddings_depend_on_their_input_in_either_encoding(provider, sdk) -> None:
    options = {"model": "text-embedding-3-small", "dimensions": 8}
    packed = await sdk.embeddings.create(input=["one two", "three"], **options)
    plain = await sdk.embeddings.create(input=["one two"], encoding_format="float", **options)
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert (packed.usage.prompt_tokens, packed.usage.total_tokens) == (3, 3)
    assert (await sdk.embeddings.create(input=[1, 2, 3], **options)).usage.prompt_tokens == 3


async def test_models_are_listed(provider: ScriptedProvider, sdk) -> None:
    assert [model.id async for model in sdk.models.list()] == list(provider.models)


async def test_usage_and_the_model_that_served_can_be_scripted(provider: ScriptedProvider, sdk) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 7, "total_tokens": 1007}
    provider.script = Script(usage=usage, model="gpt-4o-2024-08-06")
    answer = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert answer.usage.prompt_tokens == 1000
    assert answer.model == "gpt-4o-2024-08-06"


async def test_the_next_answers_can_be_errors(provider: ScriptedProvider, sdk) -> None:
    provider.next(Script(status=429, headers=((b"retry-after", b"7"),)), times=2)
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as raised:
            await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert raised.value.response.headers["retry-after"] == "7"
    assert (await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)).choices


async def test_an_answer_can_break_off(provider: ScriptedProvider, sdk) -> None:
    provider.script = Script(breaks_after=3)
    stream = await sdk.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
    with pytest.raises(openai.APIConnectionError):
        _ = [chunk async for chunk in stream]
    assert provider.exchanges[0].chunks_sent == 3
    assert not provider.exchanges[0].finished


async def test_what_openai_refuses_is_refused(provider: ScriptedProvider, sdk) -> None:
    provider.api_key = "sk-other"
    with pytest.raises(openai.AuthenticationError):
        await sdk.models.list()
    provider.api_key = "sk-x"
    with pytest.raises(openai.NotFoundError):
        await sdk.post("/rerank", cast_to=object, body={"query": "x"})
    with pytest.raises(openai.BadRequestError):
        await sdk.post("/chat/completions", cast_to=object, body={})


async def test_requests_are_remembered(provider: ScriptedProvider, sdk) -> None:
    await sdk.chat.completions.create(model="gpt-4o", messages=HELLO)
    (exchange,) = provider.exchanges
    assert (exchange.method, exchange.path) == ("POST", "/v1/chat/completions")
    assert exchange.header(b"authorization") == b"Bearer sk-x"
    assert exchange.body == json.loads(exchange.raw_body) == {"model": "gpt-4o", "messages": HELLO}
    assert (exchange.chunks_sent, exchange.finished, exchange.disconnected_at) == (1, True, None)
