"""Batches whose requests are in the call, read as one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, WireProtocol
from govmiddleware.core.refusals import InvalidRequest, Refusal, RouteNotMetered
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.protocols.anthropic_batches import AnthropicBatches
from govmiddleware.protocols.gemini_batches import GeminiBatches
from govmiddleware.protocols.openai_batches import OpenAIBatches

GEMINI = "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
SAID = [{"role": "user", "content": "Say hello"}]
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}


def read(protocol: WireProtocol, path: str = "", **fields: Any) -> RequestInfo:
    return protocol.read_request(RequestBody(json.dumps(fields).encode()), path=path)


def one(model: str = "claude-sonnet-4-5", **fields: Any) -> Any:
    return {"custom_id": "one", "params": {"model": model, "max_tokens": 100, "messages": SAID, **fields}}


def contents(**config: Any) -> Any:
    said = [{"parts": [{"text": "Hello"}], "role": "user"}]
    return {"request": {"contents": said, "generationConfig": config}, "metadata": {"key": "1"}}


def gemini(*requests: Any, **batch: Any) -> RequestInfo:
    inputs = {"inputConfig": {"requests": {"requests": requests}}}
    return read(GeminiBatches(), GEMINI, batch={"displayName": "b", **inputs, **batch})


def test_the_requests_of_a_batch_add_up() -> None:
    info = read(AnthropicBatches(), requests=[one(), one(max_tokens=50, tools=[SEARCH] * 2)])
    single = read(AnthropicBatches(), requests=[one()])
    assert (info.output_tokens, info.choices, info.can_be_limited) == (150, 1, False)
    assert list(info.texts)[:1] == list(single.texts)
    assert len(info.texts) > 2
    assert info.unknown_parts == 2
    assert info.reach == Reach(
        cache_1h=False, service_tier="batch", is_served=True, beside_tokens=Usage(web_searches=6)
    )


def test_a_batch_of_which_one_is_not_limited_has_as_many_choices_as_requests() -> None:
    info = gemini(contents(maxOutputTokens=10), contents(candidateCount=2))
    assert (info.model, info.output_tokens, info.choices) == ("gemini-2.5-flash", None, 3)
    assert gemini(contents(maxOutputTokens=10), contents(max_output_tokens=5)).output_tokens == 15
    with pytest.raises(InvalidRequest, match="maxOutputTokens"):  # where the model has no maximum either
        GeminiBatches().bound_output(RequestBody(b"{}"), 100)


def test_a_batch_is_sent_on_as_it_was_judged() -> None:
    twice = b'{"requests": [{"params": {"model": "dear", "model": "m", "max_tokens": 1, "messages": []}}]}'
    body = RequestBody(twice)
    assert AnthropicBatches().read_request(body).model == "m"
    assert b"dear" not in body.serialise()


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [one(), one("claude-haiku-4-5")],
        [{"custom_id": "one"}],
        [one(max_tokens="many")],
        [one(fallbacks=["other"])],
        [one(speed="fast")],
        "all",
    ],
)
def test_a_batch_that_cannot_be_reserved_is_refused(requests: Any) -> None:
    with pytest.raises(InvalidRequest):
        read(AnthropicBatches(), requests=requests)


@pytest.mark.parametrize(
    ("batch", "kind"),
    [
        ({}, InvalidRequest),
        ({"inputConfig": {"fileName": "files/1"}}, RouteNotMetered),
        ({"input_config": {"file_name": "files/1"}}, RouteNotMetered),
        ({"model": "models/gemini-3-pro"}, InvalidRequest),
        ({"inputConfig": {"requests": {"requests": ["Hello"]}}}, InvalidRequest),
        (
            {"inputConfig": {"requests": {"requests": [{"request": {"model": "models/other"}}]}}},
            InvalidRequest,
        ),
    ],
)
def test_a_batch_of_geminis_that_cannot_be_reserved_is_refused(batch: Any, kind: type[Refusal]) -> None:
    with pytest.raises(kind):
        read(GeminiBatches(), GEMINI, batch=batch)


def test_nothing_may_stand_beside_the_requests() -> None:
    for protocol in (AnthropicBatches(), GeminiBatches()):
        with pytest.raises(InvalidRequest, match="nothing but"):
            read(protocol, GEMINI, model="other")
    with pytest.raises(RouteNotMetered, match="in a file"):
        read(OpenAIBatches(), input_file_id="file-1")
