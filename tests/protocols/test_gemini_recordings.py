"""The Gemini protocol against recorded exchanges with the Gemini API and Vertex AI."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.exchanges import EXCHANGES, answered, recorded

from govmiddleware.core.body import RequestBody
from govmiddleware.core.estimate import input_bound, input_estimate
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.tokens import count_tokens
from govmiddleware.protocols.registry import recognise

pytestmark = pytest.mark.skipif(
    not (EXCHANGES / "gemini.jsonl.gz").exists(), reason=f"no recorded exchanges in {EXCHANGES}"
)


def info_of(exchange: dict[str, Any]) -> RequestInfo:
    protocol = recognise("POST", exchange["path"])
    assert protocol is not None
    assert protocol.name == "gemini"
    body = RequestBody(json.dumps(exchange["request"]).encode())
    return protocol.read_request(body, path=exchange["path"], query=exchange["query"].encode())


def reader_of(*, stream: bool, may_be_cut: bool = False) -> UsageReader:
    protocol = recognise("POST", "/v1beta/models/m:generateContent")
    assert protocol is not None
    return protocol.usage_reader(stream=stream, usage_was_injected=False, may_be_cut=may_be_cut)


def read(raw: bytes, stream: bool) -> UsageReader:
    reader = reader_of(stream=stream)
    assert reader.feed(raw) == raw
    assert reader.close() == b""
    assert reader.finished
    return reader


def chunks_of(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: ")]


def reported(raw: bytes, stream: bool) -> dict[str, Any]:
    """Google's own figures, found in another way than the readers do."""
    answer = chunks_of(raw)[-1] if stream else json.loads(raw)
    found: dict[str, Any] = answer["usageMetadata"]
    return found


def test_usage_is_what_google_reports() -> None:
    compared = 0
    for exchange, raw, stream in answered("gemini"):
        figures, usage = reported(raw, stream), read(raw, stream).usage
        assert usage is not None, exchange["id"]
        count = {name: value for name, value in figures.items() if isinstance(value, int)}.get
        assert usage.input_tokens == count("promptTokenCount", 0) + count("toolUsePromptTokenCount", 0)
        assert usage.output_tokens == count("candidatesTokenCount", 0) + count("thoughtsTokenCount", 0)
        assert usage.total_tokens == count("totalTokenCount", 0), exchange["id"]
        assert usage.cached_tokens == count("cachedContentTokenCount", 0)
        assert usage.reasoning_tokens == count("thoughtsTokenCount", 0)
        details = figures.get("promptTokensDetails", [])
        sound = [part["tokenCount"] for part in details if part["modality"] == "AUDIO"]
        assert usage.input_audio_tokens == sum(sound)
        compared += 1
    assert compared == 207


def test_what_google_search_was_asked_is_counted() -> None:
    asked = []
    for exchange, raw, stream in answered("gemini"):
        queries = len(set(re.findall(r'"webSearchQueries": \[([^\]]*)\]', raw.decode())[-1:]))
        usage = read(raw, stream).usage
        assert usage is not None
        if queries:
            asked.append((info_of(exchange).model.startswith("gemini-3"), usage.web_searches))
        else:
            assert usage.web_searches == 0
    assert len(asked) >= 4
    assert {searches for by_query, searches in asked if not by_query} == {1}  # of an answer, all are one
    assert {searches for by_query, searches in asked if by_query} == {1, 2}


def test_every_recorded_request_can_be_read() -> None:
    infos = [info_of(exchange) for exchange in recorded("gemini")]
    assert len(infos) == 209
    assert sum(info.stream for info in infos) == 9
    assert {info.model for info in infos} >= {
        "gemini-3-flash-preview",
        "gemini-2.5-flash",
        "gemini-2.0-flash",
    }


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_usage_does_not_depend_on_the_form_of_a_stream_or_on_how_it_is_cut(data: st.DataObject) -> None:
    streams = [raw for _, raw, stream in answered("gemini") if stream]
    events = streams[data.draw(st.integers(0, len(streams) - 1))]
    indent = data.draw(st.sampled_from([None, 2]))
    array = json.dumps(chunks_of(events), indent=indent).encode()
    raw = data.draw(st.sampled_from([events, events.replace(b"\r\n", b"\n"), array, array + b"\n"]))
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    reader = reader_of(stream=True, may_be_cut=data.draw(st.booleans()))
    passed = [reader.feed(raw[start:end]) for start, end in pairwise([0, *places, len(raw)])]
    assert b"".join(passed) + reader.close() == raw
    assert reader.finished
    whole = read(events, True)
    assert (reader.usage, reader.model) == (whole.usage, whole.model)
    assert "".join(reader.take_delivered()) == "".join(whole.take_delivered())


def measured() -> Iterator[tuple[str, int, int, int]]:
    """Id, estimate, bound and true input of each exchange without media and hosted tools."""
    for exchange, raw, stream in answered("gemini"):
        request = json.dumps(exchange["request"])
        if any(name in request for name in ("inlineData", "inline_data", "fileData", "file_data")):
            continue
        info, usage = info_of(exchange), read(raw, stream).usage
        if info.unknown_parts or usage is None or not usage.input_tokens:
            continue
        estimate = input_estimate(info, count_tokens(info.texts), 0)
        yield exchange["id"], estimate, input_bound(estimate, info.model), usage.input_tokens


def test_the_estimate_is_close_and_the_bound_holds_in_each_half_of_the_recordings() -> None:
    """What is counted for a signature was fitted on the even half alone; the odd one gives the same figures."""
    close: dict[int, list[bool]] = {0: [], 1: []}
    held: dict[int, list[bool]] = {0: [], 1: []}
    tight = []
    for exchange_id, estimate, bound, true in measured():
        half = int(exchange_id[:2], 16) % 2
        close[half].append(abs(estimate - true) <= max(12, true / 10))
        held[half].append(bound >= true)
        tight.append(bound <= 1.6 * true + 64)
    for half in (0, 1):
        assert len(close[half]) > 60
        assert statistics.mean(close[half]) >= 0.9
        assert statistics.mean(held[half]) >= 0.98
    assert statistics.mean(tight) >= 0.95


def test_a_picture_and_a_text_in_a_request_are_counted_by_what_they_are() -> None:
    seen = 0
    for exchange, raw, stream in answered("gemini"):
        request = json.dumps(exchange["request"])
        if "image/jpeg" in request or "text/plain" in request:
            info, usage = info_of(exchange), read(raw, stream).usage
            if not info.unknown_parts and usage is not None:
                estimate = input_estimate(info, count_tokens(info.texts), 0)
                assert 0.85 <= estimate / usage.input_tokens <= 1.1
                seen += 1
    assert seen == 2
