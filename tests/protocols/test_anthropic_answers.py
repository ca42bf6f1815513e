"""Reading messages: usage, the model, what was delivered, in JSON and in streams."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.anthropic_reader import JsonReader, StreamReader
from govmiddleware.protocols.readers import LARGEST_COUNT

STARTED = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 20,
    "cache_read_input_tokens": 100,
    "output_tokens": 1,
}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def started(usage: object = STARTED) -> bytes:
    return event("message_start", message={"model": "claude-x", "content": [], "usage": usage})


def delta(**fields: Any) -> bytes:
    return event("content_block_delta", index=0, delta=fields)


def ended(usage: object) -> bytes:
    return event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)


STOP = event("message_stop")


def read(raw: bytes) -> StreamReader:
    reader = StreamReader(may_be_cut=False)
    assert reader.feed(raw) == raw
    assert reader.close() == b""
    return reader


def read_json(answer: object) -> JsonReader:
    reader = JsonReader()
    raw = json.dumps(answer).encode()
    assert reader.feed(raw[:7]) + reader.feed(raw[7:]) == raw
    assert reader.close() == b""
    return reader


def test_input_is_the_whole_prompt_and_thinking_is_in_the_output() -> None:
    usage = {**STARTED, "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}}
    reader = read_json({"model": "claude-x", "content": [], "usage": usage})
    assert reader.usage == Usage(123, 100, 20, 50, 30)
    assert (reader.model, reader.finished) == ("claude-x", True)


def test_figures_are_cumulative_and_what_is_left_out_still_holds() -> None:
    first, last = (
        {"output_tokens": 40},
        {"input_tokens": 5, "cache_read_input_tokens": None, "output_tokens": 60},
    )
    reader = read(started() + ended(first) + ended(last) + STOP)
    assert reader.usage == Usage(125, 100, 20, 60)
    assert (reader.model, reader.finished) == ("claude-x", True)


def test_a_stream_that_is_cut_knows_its_input() -> None:
    reader = read(started() + delta(type="text_delta", text="Hi"))
    assert reader.usage == Usage(123, 100, 20, 1)
    assert not reader.finished


def test_a_whole_stream_that_never_told_its_output_has_no_usage() -> None:
    assert read(started() + event("message_delta", delta={}) + STOP).usage is None


def test_what_is_billed_beside_the_figures_at_the_top_is_added() -> None:
    apart = {"input_tokens": 1000, "output_tokens": 70, "cache_read_input_tokens": 7}
    iterations = [
        {"type": "message", "input_tokens": 3, "output_tokens": 9},
        {"type": "compaction", **apart},
        {"type": "advisor_message", **apart},
    ]
    reader = read_json({"usage": {"input_tokens": 3, "output_tokens": 9, "iterations": iterations}})
    assert reader.usage == Usage(3 + 2 * 1007, 14, 0, 9 + 140)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"input_tokens": 3},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": True, "output_tokens": 1},
        {"input_tokens": 3, "output_tokens": LARGEST_COUNT + 1},
        {"input_tokens": "3", "output_tokens": 1},
    ],
)
def test_usage_that_cannot_be_believed_is_none(usage: object) -> None:
    assert read_json({"usage": usage}).usage is None
    assert read(started(usage) + ended(usage) + STOP).usage is None


def test_what_was_generated_is_delivered_and_what_tools_found_is_not() -> None:
    raw = started()
    raw += event("content_block_start", index=0, content_block={"type": "text", "text": "A"})
    raw += delta(type="text_delta", text="B") + delta(type="thinking_delta", thinking="C")
    raw += delta(type="signature_delta", signature="NO") + delta(
        type="citations_delta", citation={"cited_text": "NO"}
    )
    raw += event("content_block_start", index=1, content_block={"type": "tool_use", "name": "D", "input": {}})
    raw += delta(type="input_json_delta", partial_json='{"E"')
    found = [{"type": "web_search_result", "title": "NO", "encrypted_content": "NO"}]
    raw += event(
        "content_block_start", index=2, content_block={"type": "web_search_tool_result", "content": found}
    )
    reader = read(raw)
    assert reader.take_delivered() == ["A", "B", "C", "D", '{"E"']
    assert reader.take_delivered() == []


def test_of_an_answer_without_usage_the_texts_are_told() -> None:
    content = [
        {"type": "thinking", "thinking": "A", "signature": "NO"},
        {"type": "text", "text": "B"},
        {"type": "tool_use", "id": "NO", "name": "C", "input": {"D": 1}},
    ]
    assert read_json({"content": content}).take_delivered() == ["A", "B", "C", '{"D":1}']
    with_usage = {"content": content, "usage": {"input_tokens": 1, "output_tokens": 1}}
    assert read_json(with_usage).take_delivered() == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@given(places=st.lists(st.integers(0, 10_000), max_size=12))
def test_a_stream_is_read_however_it_is_written_and_cut(line_end: str, places: list[int]) -> None:
    text = (
        f": a comment\n\n{started().decode()}event: ping\ndata: {{}}\n\n"
        'event:content_block_delta\nid: 7\ndata:{"type": "content_block_delta",\ndata: "delta": {"text": "Hi"}}\n\n'
        f"event: new\ndata: [not an object]\n\nevent: new\ndata: {{broken\n\n{ended({'output_tokens': 9}).decode()}"
        f"{STOP.decode()}"
    )
    raw = text.replace("\n", line_end).encode()
    for may_be_cut in (False, True):
        reader = StreamReader(may_be_cut=may_be_cut)
        bounds = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
        passed = [reader.feed(raw[start:end]) for start, end in pairwise(bounds)]
        assert b"".join(passed) + reader.close() == raw
        assert reader.usage == Usage(123, 100, 20, 9)
        assert reader.take_delivered() == ["Hi"]
        assert reader.finished


@given(st.binary(max_size=200))
def test_any_bytes_pass_as_they_came(raw: bytes) -> None:
    read(raw)
    reader = JsonReader()
    assert reader.feed(raw) + reader.close() == raw


def test_an_answer_that_is_an_error_has_no_usage() -> None:
    assert read_json({"type": "error", "error": {"type": "overloaded_error"}}).usage is None
    assert not read(event("error", error={"type": "overloaded_error"})).finished


def test_caches_of_both_kinds_searches_and_the_tier_are_read() -> None:
    usage = {
        "input_tokens": 5,
        "output_tokens": 7,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "priority",
    }
    found = JsonReader()
    found.feed(json.dumps({"model": "claude", "usage": usage}).encode())
    found.close()
    assert found.usage == Usage(
        input_tokens=305,
        output_tokens=7,
        cache_write_tokens=300,
        cache_write_1h_tokens=200,
        web_searches=2,
    )
    assert found.service_tier == "priority"
    quick = StreamReader(may_be_cut=False)
    quick.feed(started(usage | {"speed": "fast"}))
    assert quick.service_tier == "fast"
    assert quick.usage == found.usage
