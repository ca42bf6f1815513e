"""What requests may be billed for beside text, as far as they show: it decides what is reserved."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.protocols.anthropic_messages import AnthropicMessages
from govmiddleware.protocols.gemini_generate import GeminiGenerate
from govmiddleware.protocols.openai_chat import OpenAIChat
from govmiddleware.protocols.openai_completions import OpenAICompletions
from govmiddleware.protocols.openai_embeddings import OpenAIEmbeddings
from govmiddleware.protocols.openai_responses import OpenAIResponses
from govmiddleware.protocols.prompt import SEARCHES

SAID = [{"role": "user", "content": "Settle the little bottle: ttl."}]
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]
TEXT = Reach(media=False, cache_1h=False)


def chat(**fields: Any) -> Reach:
    raw = json.dumps({"model": "m", "messages": SAID, **fields}).encode()
    return OpenAIChat().read_request(RequestBody(raw)).reach


def message(raw: bytes | None = None, **fields: Any) -> Reach:
    body = {"model": "m", "max_tokens": 9, "messages": SAID, **fields}
    return AnthropicMessages().read_request(RequestBody(raw or json.dumps(body).encode())).reach


def gemini(*parts: Any, model: str = "gemini-2.5-flash", **fields: Any) -> Reach:
    said = {"contents": [{"role": "user", "parts": [{"text": "Who?"}, *parts]}], **fields}
    body = json.dumps(said).encode()
    path = f"/v1beta/models/{model}:generateContent"
    return GeminiGenerate().read_request(RequestBody(body), path=path).reach


def response(**fields: Any) -> Reach:
    body = json.dumps({"model": "m", "input": "Who?", **fields}).encode()
    return OpenAIResponses().read_request(RequestBody(body)).reach


def completion(**fields: Any) -> Reach:
    body = json.dumps({"model": "m", "prompt": "Who?", **fields}).encode()
    return OpenAICompletions().read_request(RequestBody(body)).reach


def test_plain_text_reaches_nothing_else() -> None:
    assert not gemini().media
    assert not response().media
    assert chat() == message() == TEXT
    embeddings = RequestBody(b'{"model": "m", "input": "text"}')
    assert OpenAIEmbeddings().read_request(embeddings).reach == TEXT


def test_media_may_be_billed_apart() -> None:
    assert chat(messages=PICTURE).media
    assert gemini({"fileData": {"fileUri": "https://x/y.mp4"}}).media
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    assert gemini({"inlineData": {"mimeType": "image/png", "data": pixel}}).media, "though its size shows"
    assert response(previous_response_id="resp_1").media
    picture = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    assert message(messages=[{"role": "user", "content": [picture]}]).media


@pytest.mark.parametrize("key", ["ttl", r"\u0074tl", r"tt\u006c", r"t\u0074\u006C"])
def test_a_cache_that_may_be_kept_for_an_hour_is_seen_however_it_is_written(key: str) -> None:
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [part]}]}
    raw = json.dumps(body).replace('"ttl"', f'"{key}"')
    assert message(raw.encode()).cache_1h
    assert OpenAIChat().read_request(RequestBody(raw.encode())).reach.cache_1h
    assert message(cache_control={"type": "ephemeral", "ttl": "1h"}).cache_1h


@pytest.mark.parametrize(
    ("tool", "searches"),
    [
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 3}, 3),
        ({"type": "web_search_20250305", "name": "web_search"}, SEARCHES),
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 10**9}, SEARCHES),
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": "many"}, SEARCHES),
        ({"type": "bash_20250124", "name": "bash"}, 0),
        ({"name": "web_search", "input_schema": {"type": "object"}}, 0),
    ],
)
def test_searches_are_reserved_as_many_as_a_tool_may_make(tool: dict[str, Any], searches: int) -> None:
    assert message(tools=[tool]).beside_tokens == Usage(web_searches=searches)


def test_a_chat_that_searches_reserves_an_allowance() -> None:
    assert chat(web_search_options={}).beside_tokens == Usage(web_searches=SEARCHES)
    assert chat(web_search_options=None).beside_tokens == Usage()


@pytest.mark.parametrize(
    ("tool", "usage"),
    [
        ({"type": "web_search"}, Usage(web_searches=SEARCHES)),
        ({"type": "web_search_preview_2025_03_11"}, Usage(web_searches=SEARCHES)),
        ({"type": "openrouter:web_search"}, Usage(web_searches=SEARCHES)),
        ({"type": "openrouter:web_search", "parameters": {"max_uses": 1}}, Usage(web_searches=1)),
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 3}, Usage(web_searches=3)),
        ({"type": "file_search", "vector_store_ids": ["vs_1"]}, Usage(file_searches=SEARCHES)),
        ({"type": "code_interpreter"}, Usage()),
        ({"type": ["web_search"]}, Usage()),
    ],
)
@pytest.mark.parametrize("reach", [chat, response])
def test_hosted_searches_are_reserved_in_openais_protocols(
    reach: Callable[..., Reach], tool: dict[str, Any], usage: Usage
) -> None:
    assert reach(tools=[tool]).beside_tokens == usage
    assert reach(tools=[tool, tool]).beside_tokens == usage + usage


def test_a_response_searches_no_more_often_than_it_may_call_tools() -> None:
    tools = [{"type": "web_search"}, {"type": "file_search"}]
    assert response(tools=tools, max_tool_calls=2).beside_tokens == Usage(web_searches=2, file_searches=2)
    assert response(tools=tools, max_tool_calls=99).beside_tokens == Usage(
        web_searches=SEARCHES, file_searches=SEARCHES
    )
    late = [{"type": "additional_tools", "tools": tools[:1]}]
    assert response(input=late).beside_tokens == Usage(web_searches=SEARCHES)


@pytest.mark.parametrize(
    "tool", ["googleSearch", "google_search", "googleSearchRetrieval", "enterpriseWebSearch"]
)
def test_what_google_is_asked_is_reserved_as_it_is_billed(tool: str) -> None:
    assert gemini(model="gemini-3-pro", tools=[{tool: {}}]).beside_tokens == Usage(web_searches=SEARCHES)
    assert gemini(tools=[{tool: {}}, {tool: {}}]).beside_tokens == Usage(web_searches=1), "all as one"
    assert gemini(tools=[{"urlContext": {}}]).beside_tokens == Usage()


def test_the_tier_of_service_that_is_asked_for_is_read() -> None:
    for reach in (chat, response, completion):
        assert reach(service_tier="Priority").service_tier == "priority"
        assert reach(service_tier="flex").service_tier == "flex"
    assert message(speed="fast").service_tier == "fast"
    assert message(speed="standard").service_tier is None


@pytest.mark.parametrize(
    "fields",
    [
        {"extra_headers": {"X-Amzn-Bedrock-Service-Tier": "priority"}},
        {"headers": {"anthropic-beta": "fast-mode-2026-02-01"}},
        {"serviceTier": {"type": "priority"}},
        {"performanceConfig": {"latency": "optimized"}},
        {"speed": "ludicrous"},
        {"inference_geo": "us"},
    ],
)
@pytest.mark.parametrize("reach", [chat, response, completion, message])
def test_a_dear_mode_is_refused_whichever_protocol_asks_for_it(
    reach: Callable[..., Reach], fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        reach(**fields)
    assert refused.value.param == next(iter(fields))


@pytest.mark.parametrize("reach", [chat, response, completion])
def test_a_fast_mode_is_for_messages_whose_answers_tell_it(reach: Callable[..., Reach]) -> None:
    with pytest.raises(InvalidRequest, match="'speed' is supported as standard"):
        reach(speed="fast")
    assert reach(speed="standard", inference_geo="global") == reach()
