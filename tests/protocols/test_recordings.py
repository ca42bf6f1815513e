"""The chat protocol and embeddings against recorded exchanges with real providers."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.exchanges import EXCHANGES, answered, recorded

from govmiddleware.core.body import RequestBody
from govmiddleware.core.estimate import input_bound, input_estimate
from govmiddleware.core.money import nano_usd
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.tokens import count_tokens, encoding_for
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.registry import recognise

pytestmark = pytest.mark.skipif(
    not (EXCHANGES / "openai.chat.jsonl.gz").exists(), reason=f"no recorded exchanges in {EXCHANGES}"
)


def reported(raw: bytes, stream: bool) -> dict[str, Any] | None:
    """The provider's own figures, found in another way than the readers do."""
    if not stream:
        found: dict[str, Any] | None = json.loads(raw).get("usage")
        return found
    last = None
    for line in raw.decode().splitlines():
        if line.startswith("data: {"):
            last = json.loads(line[6:]).get("usage") or last
    return last


def streams() -> list[bytes]:
    return [raw for _, raw, stream in answered("openai.chat") if stream]


def read_usage(raw: bytes, stream: bool) -> Usage | None:
    chat = recognise("POST", "/v1/chat/completions")
    assert chat is not None
    reader = chat.usage_reader(stream=stream, usage_was_injected=False)
    assert reader.feed(raw) == raw
    assert reader.close() == b""
    assert reader.finished
    return reader.usage


def test_usage_is_what_every_provider_reports() -> None:
    compared = 0
    for exchange, raw, stream in answered("openai.chat"):
        figures = reported(raw, stream)
        if figures is None:
            continue
        usage = read_usage(raw, stream)
        assert usage is not None, exchange["id"]
        details = figures.get("prompt_tokens_details") or {}
        thoughts = figures.get("completion_tokens_details") or {}
        assert usage.input_tokens == figures["prompt_tokens"], exchange["id"]
        assert usage.output_tokens == figures["completion_tokens"], exchange["id"]
        if details.get("cached_tokens") is not None:
            assert usage.cached_tokens == details["cached_tokens"], exchange["id"]
        if details.get("cache_write_tokens") is not None:
            assert usage.cache_write_tokens == details["cache_write_tokens"], exchange["id"]
        if thoughts.get("reasoning_tokens") is not None:
            assert usage.reasoning_tokens == thoughts["reasoning_tokens"], exchange["id"]
        compared += 1
    assert compared >= 250


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_usage_does_not_depend_on_how_a_stream_is_cut(data: st.DataObject) -> None:
    raw = data.draw(st.sampled_from(streams()))
    chat = recognise("POST", "/v1/chat/completions")
    assert chat is not None
    reader = chat.usage_reader(stream=True, usage_was_injected=False)
    for chunk in cut(raw, data):
        assert reader.feed(chunk) == chunk
    assert reader.close() == b""
    assert reader.finished
    assert reader.usage == read_usage(raw, True)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_recorded_stream_is_stripped_of_what_include_usage_provoked(data: st.DataObject) -> None:
    raw = data.draw(st.sampled_from([raw for raw in streams() if b'"choices":[],"usage":{' in raw]))
    events = [event for event in raw.split(b"\n\n") if b'"choices":[],"usage":{' not in event]
    expected = b"\n\n".join(event.replace(b',"usage":null', b"") for event in events)
    chat = recognise("POST", "/v1/chat/completions")
    assert chat is not None
    reader = chat.usage_reader(stream=True, usage_was_injected=True)
    passed = b"".join([reader.feed(chunk) for chunk in cut(raw, data)]) + reader.close()
    assert passed == expected
    assert reader.usage is not None


def cut(raw: bytes, data: st.DataObject) -> list[bytes]:
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]


def test_the_texts_of_a_stream_are_the_tokens_it_reports() -> None:
    """Where nothing is hidden, delivered texts count about as many tokens as the provider bills."""
    ratios = []
    for _, raw, stream in answered("openai.chat"):
        usage = read_usage(raw, stream)
        chat = recognise("POST", "/v1/chat/completions")
        assert chat is not None
        if not stream or usage is None or usage.reasoning_tokens or usage.output_tokens < 20:
            continue
        reader = chat.usage_reader(stream=True, usage_was_injected=False)
        reader.feed(raw)
        reader.close()
        texts = ["".join(reader.take_delivered())]
        ratios.append(count_tokens(texts) / usage.output_tokens)
        assert reader.take_delivered() == []
    assert 0.8 <= statistics.median(ratios) <= 1.2


def test_every_recorded_request_can_be_read_but_those_that_name_several_models() -> None:
    chat = recognise("POST", "/v1/chat/completions")
    assert chat is not None
    refused = []
    for exchange in recorded("openai.chat"):
        try:
            chat.read_request(RequestBody(json.dumps(exchange["request"]).encode()))
        except InvalidRequest as refusal:
            refused.append((refusal.param, exchange["response"]["model"]))
    # Asked for a free model, served by another: just what must not pass.
    assert refused == [("models", "x-ai/grok-4")]


@dataclass(frozen=True)
class Measured:
    is_openai: bool
    half: int
    estimate: int
    bound: int
    true: int

    @property
    def close(self) -> bool:
        return abs(self.estimate - self.true) <= max(12, 0.1 * self.true)


@cache
def measured() -> list[Measured]:
    """Each exchange without media and hosted tools."""
    chat = recognise("POST", "/v1/chat/completions")
    assert chat is not None
    found = []
    for exchange, raw, stream in answered("openai.chat"):
        usage = read_usage(raw, stream)
        try:
            info = chat.read_request(RequestBody(json.dumps(exchange["request"]).encode()))
        except InvalidRequest:
            continue
        if usage is None or info.unknown_parts or not usage.input_tokens:
            continue
        estimate = input_estimate(info, count_tokens(info.texts, encoding=encoding_for(info.model)), 0)
        bound = input_bound(estimate, info.model)
        half = int(exchange["id"][:2], 16) % 2
        is_openai = exchange["host"] == "api.openai.com"
        found.append(Measured(is_openai, half, estimate, bound, usage.input_tokens))
    return found


def test_estimates_are_close_in_each_half_of_the_recordings() -> None:
    """Each half for itself, so that no single series of alike recordings carries it."""
    for half in (0, 1):
        figures = [each for each in measured() if each.half == half]
        assert len(figures) > 90
        assert statistics.mean(each.close for each in figures if each.is_openai) >= 0.95
        assert statistics.mean(each.close for each in figures if not each.is_openai) >= 0.75


def test_the_bound_covers_98_percent_in_each_half_and_is_not_far_above() -> None:
    for half in (0, 1):
        figures = [each for each in measured() if each.half == half]
        assert statistics.mean(each.bound >= each.true for each in figures) >= 0.98
        assert statistics.mean(each.bound <= 1.6 * each.true + 64 for each in figures) >= 0.9


def test_recorded_embeddings_are_read_and_metered() -> None:
    embeddings = recognise("POST", "/v1/embeddings")
    assert embeddings is not None
    exchanges = [each for each in recorded("openai.embeddings") if each["path"] == "/v1/embeddings"]
    assert exchanges
    for exchange in exchanges:
        info = embeddings.read_request(RequestBody(json.dumps(exchange["request"]).encode()))
        counted = count_tokens(info.texts, encoding=encoding_for(info.model))
        reader = embeddings.usage_reader(stream=False, usage_was_injected=False)
        reader.feed(json.dumps(exchange["response"]).encode())
        reader.close()
        if exchange["status"] == 200:
            assert reader.usage == Usage(input_tokens=exchange["response"]["usage"]["prompt_tokens"])
            assert input_bound(input_estimate(info, counted, 0), info.model) >= counted
            assert counted == reader.usage.input_tokens
        else:
            assert reader.usage is None


def test_most_recorded_models_have_a_price() -> None:
    book = PriceBook()
    models = {exchange["request"]["model"] for exchange, _, _ in answered("openai.chat")}
    unpriced = {model for model in models if book.find(model) is None}
    assert len(unpriced) / len(models) < 0.2, unpriced


def test_costs_are_what_openrouter_billed_for_calls_without_hosted_tools() -> None:
    book = PriceBook()
    chat = recognise("POST", "/v1/chat/completions")
    assert chat is not None
    equal = []
    for exchange, raw, stream in answered("openai.chat"):
        billed = (reported(raw, stream) or {}).get("cost")
        price = book.find(exchange["request"]["model"])
        usage = read_usage(raw, stream)
        if "models" in exchange["request"]:
            continue
        hosted = chat.read_request(RequestBody(json.dumps(exchange["request"]).encode())).unknown_parts
        if billed and price and usage and not hosted:
            equal.append(abs(price.cost(usage) - nano_usd(billed)) <= 1)
    assert len(equal) > 15
    assert sum(equal) / len(equal) >= 0.85
