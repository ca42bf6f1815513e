"""The converse protocol against recorded exchanges with Bedrock."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.exchanges import EXCHANGES, recorded

from govmiddleware.core.body import RequestBody
from govmiddleware.core.estimate import input_bound, input_estimate
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.tokens import count_tokens
from govmiddleware.protocols.registry import recognise

pytestmark = pytest.mark.skipif(
    not (EXCHANGES / "bedrock.jsonl.gz").exists(), reason=f"no recorded exchanges in {EXCHANGES}"
)


def answered() -> Iterator[tuple[dict[str, Any], bytes, bool]]:
    """Each exchange that went well, its answer's bytes, and whether they are a stream. The recordings keep the frames
    of streams as texts, which has cost them their lengths and checksums."""
    for exchange in recorded("bedrock"):
        if exchange["status"] == 200:
            text = exchange["response_text"] or json.dumps(exchange["response"])
            yield exchange, text.encode(), exchange["content_type"].endswith("eventstream")


def info_of(exchange: dict[str, Any]) -> RequestInfo:
    path = unquote(exchange["path"])
    protocol = recognise("POST", path)
    assert protocol is not None
    assert protocol.name == "bedrock"
    return protocol.read_request(RequestBody(json.dumps(exchange["request"]).encode()), path=path)


def reader_of(*, stream: bool, may_be_cut: bool = False) -> UsageReader:
    protocol = recognise("POST", "/model/m/converse")
    assert protocol is not None
    return protocol.usage_reader(stream=stream, usage_was_injected=False, may_be_cut=may_be_cut)


def read(raw: bytes, stream: bool) -> UsageReader:
    reader = reader_of(stream=stream)
    assert reader.feed(raw) == raw
    assert reader.close() == b""
    assert reader.finished
    return reader


def reported(raw: bytes) -> dict[str, int]:
    """Bedrock's own figures, found in another way than the readers do."""
    usage = raw.decode()[raw.decode().rindex('"usage"') :]
    return {name: int(count) for name, count in re.findall(r'"(\w+)": ?(\d+)', usage)}


def test_usage_is_what_bedrock_reports() -> None:
    compared = 0
    for exchange, raw, stream in answered():
        count, usage = reported(raw), read(raw, stream).usage
        assert usage is not None, exchange["id"]
        cached, written = count.get("cacheReadInputTokens", 0), count.get("cacheWriteInputTokens", 0)
        assert usage.input_tokens == count["inputTokens"] + cached + written
        assert (usage.cached_tokens, usage.cache_write_tokens) == (cached, written)
        assert (usage.output_tokens, usage.total_tokens) == (count["outputTokens"], count["totalTokens"])
        compared += 1
    assert compared == 102


def test_every_recorded_request_can_be_read() -> None:
    infos = [info_of(exchange) for exchange in recorded("bedrock")]
    assert len(infos) == 109
    assert sum(info.stream for info in infos) == 4


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_usage_does_not_depend_on_how_a_stream_is_cut(data: st.DataObject) -> None:
    streams = [raw for _, raw, stream in answered() if stream]
    raw = streams[data.draw(st.integers(0, len(streams) - 1))]
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    reader = reader_of(stream=True, may_be_cut=data.draw(st.booleans()))
    passed = [reader.feed(raw[start:end]) for start, end in pairwise([0, *places, len(raw)])]
    assert b"".join(passed) + reader.close() == raw
    whole = read(raw, True)
    assert reader.usage == whole.usage
    assert "".join(reader.take_delivered()) == "".join(whole.take_delivered()) != ""


def measured() -> Iterator[tuple[str, int, int, int]]:
    """Id, estimate, bound and true input of each exchange without media and hosted tools."""
    for exchange, raw, stream in answered():
        info, usage = info_of(exchange), read(raw, stream).usage
        if not info.unknown_parts and usage is not None:
            estimate = input_estimate(info, count_tokens(info.texts), 0)
            yield exchange["id"], estimate, input_bound(estimate, info.model), usage.input_tokens


def test_the_estimate_is_close_and_the_bound_holds_in_each_half_of_the_recordings() -> None:
    """What Bedrock adds for a family was fitted on the even half alone."""
    close: dict[int, list[bool]] = {0: [], 1: []}
    held: dict[int, list[bool]] = {0: [], 1: []}
    tight = []
    for exchange_id, estimate, bound, true in measured():
        half = int(exchange_id[:2], 16) % 2
        close[half].append(abs(estimate - true) <= max(12, true / 10))
        held[half].append(bound >= true)
        tight.append(bound <= 1.6 * true + 64)
    for half in (0, 1):
        assert len(close[half]) > 30
        assert statistics.mean(close[half]) >= 0.85
        assert statistics.mean(held[half]) >= 0.98
    assert statistics.mean(tight) >= 0.9
