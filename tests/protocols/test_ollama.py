"""Ollama's own API: its requests, its streams of lines, and where it is recognised."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.failures import budget_exhausted

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader, WireProtocol
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.ollama import JUDGED
from govmiddleware.protocols.registry import recognise

HELLO = [{"role": "user", "content": "Hello"}]


def protocol_of(route: str) -> WireProtocol:
    protocol = recognise("POST", f"/api/{route}")
    assert protocol is not None
    return protocol


def read(route: str = "chat", **fields: Any) -> RequestInfo:
    given = {"model": "llama3.2", **({"messages": HELLO} if route == "chat" else {}), **fields}
    return protocol_of(route).read_request(RequestBody(json.dumps(given).encode()), path=f"/api/{route}")


def reader_of(*, may_be_cut: bool = False) -> UsageReader:
    return protocol_of("chat").usage_reader(stream=True, usage_was_injected=False, may_be_cut=may_be_cut)


@pytest.mark.parametrize(
    ("route", "name"),
    [
        ("chat", "ollama.chat"),
        ("generate", "ollama.generate"),
        ("embed", "ollama.embed"),
        ("embeddings", "ollama.embed"),
        ("show", "ollama.show"),
        ("pull", None),
    ],
)
def test_a_route_is_recognised_but_not_in_an_app_which_may_have_it_for_itself(
    route: str, name: str | None
) -> None:
    found = recognise("POST", f"/api/{route}")
    assert (found.name if found else None) == name
    in_app = recognise("POST", f"/api/{route}", in_app=True)
    assert (in_app.name if in_app else None) == ("openai.embeddings" if route == "embeddings" else None)


def test_what_a_request_asks_for_is_read() -> None:
    info = read(options={"num_predict": 7}, images=[], think=True)
    assert (info.model, info.stream, info.output_tokens, info.needs_limit) == ("llama3.2", True, 7, True)
    assert read(stream=False).stream is False
    generate = read(
        "generate", prompt="PROMPT", system="SYSTEM", suffix="SUFFIX", context=[1, 2, 3], images=["a", "b"]
    )
    assert sorted(generate.texts) == ["PROMPT", "SUFFIX", "SYSTEM"]
    assert (generate.input_tokens, generate.unknown_parts) == (3, 2)
    assert read("embed", input=["a", "b"]).texts == ["b", "a"]
    assert (read("show").free, read("embed", input="a").generates) == (True, False)


def test_pictures_in_a_message_are_parts_of_unknown_size() -> None:
    info = read(messages=[{"role": "user", "content": "What?", "images": ["iVBORw0KGgo" * 100] * 2}])
    assert (info.unknown_parts, list(info.texts)) == (2, ["What?"])


@pytest.mark.parametrize("limit", [None, -1, -2, 0])
def test_what_ollama_takes_for_no_limit_is_none_and_another_is_written(limit: int | None) -> None:
    assert read(options={"num_predict": limit, "seed": 1}).output_tokens is None
    body = RequestBody(json.dumps({"options": {"num_predict": limit, "seed": 1}}).encode())
    protocol_of("chat").bound_output(body, 64)
    assert json.loads(body.serialise()) == {"options": {"num_predict": 64, "seed": 1}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"Options": {"num_predict": 9}}, "Options"),
        ({"options": {"num_predict": "9"}}, "options.num_predict"),
        ({"options": []}, "options"),
        ({"model": None}, "model"),
        ({"fallbacks": ["x"]}, "fallbacks"),
    ],
)
def test_what_could_cost_more_than_it_is_judged_to_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param


LINES = [
    {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "HM"}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": "Hello\n"}, "done": False},
    {
        "model": "m",
        "message": {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
        },
    },
    {"model": "m", "message": {"content": ""}, "done": True, "prompt_eval_count": 5, "eval_count": 7},
]
STREAM = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.booleans())
def test_usage_does_not_depend_on_how_a_stream_is_cut(places: list[int], may_be_cut: bool) -> None:
    reader = reader_of(may_be_cut=may_be_cut)
    passed = [reader.feed(STREAM[start:end]) for start, end in pairwise([0, *sorted(places), len(STREAM)])]
    assert b"".join(passed) + reader.close() == STREAM
    assert (reader.finished, reader.usage, reader.model) == (
        True,
        Usage(input_tokens=5, output_tokens=7),
        "m",
    )
    assert reader.take_delivered() == ["HM", "Hello\n", '[{"function":{"name":"f","arguments":{}}}]']


def test_a_stream_can_be_ended_after_any_of_its_lines() -> None:
    used = Usage(input_tokens=11, output_tokens=3)
    places = [0, *(place + 1 for place, byte in enumerate(STREAM) if byte == ord("\n"))]
    for place in places[:-1]:
        reader = reader_of(may_be_cut=True)
        sent = reader.feed(STREAM[: place + 9]) + reader.cut(used, model="asked-for", request_id="r")
        *_, last = [ollama.ChatResponse(**json.loads(line)) for line in sent.splitlines()]
        assert (last.done, last.done_reason, last.eval_count) == (True, "length", 3)
    whole = reader_of(may_be_cut=True)
    assert whole.feed(STREAM) + whole.cut(used, model="m", request_id="r") == STREAM


def test_a_stream_that_ends_with_an_error_or_too_early_is_not_whole() -> None:
    for end in (b'{"error": "out of memory"}\n', b'{"done": tr', b""):
        reader = reader_of()
        reader.feed(STREAM[: STREAM.index(b'"done": true') - 1].rpartition(b"\n")[0] + b"\n" + end)
        reader.close()
        assert (reader.finished, reader.usage) == (False, None)


def test_an_answer_in_one_piece_is_read() -> None:
    reader = protocol_of("generate").usage_reader(stream=False, usage_was_injected=False)
    reader.feed(json.dumps({"model": "m", "response": "Hi", "done": True, "eval_count": 2}).encode())
    reader.close()
    assert (reader.usage, reader.take_delivered()) == (None, ["Hi"])  # a cached prompt was not counted once


def test_a_refusal_is_in_ollamas_envelope() -> None:
    response = protocol_of("chat").refusal(budget_exhausted(), "req-1")
    body = json.loads(response.body)
    assert (response.status, body["error"], body["code"]) == (
        429,
        "The budget is spent.",
        "insufficient_quota",
    )
    assert body["limits"][0]["maximum"] == "10.000000000"


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(JUDGED)),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)
        | st.dictionaries(st.sampled_from(["num_predict", "images"]), st.integers() | st.text(max_size=3)),
    ),
    st.binary(max_size=40),
)  # fmt: skip
def test_any_json_is_read_or_refused_and_any_bytes_pass(fields: dict[str, Any], raw: bytes) -> None:
    for route in ("chat", "generate", "embed", "show"):
        with suppress(InvalidRequest):
            assert all(isinstance(text, str) for text in read(route, **fields).texts)
    reader = reader_of(may_be_cut=True)
    assert reader.feed(raw) + reader.close() == raw
