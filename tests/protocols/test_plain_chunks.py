"""Chunks of a chat are read by their types where these are as usual, and member by member where not: alike."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from govmiddleware.core.usage import Usage
from govmiddleware.protocols import openai_chat_ending, openai_chat_reader
from govmiddleware.protocols.openai_chat_reader import StreamReader

USED = {"prompt_tokens": 9, "completion_tokens": 3}
CALL = {"function": {"name": "look", "arguments": '{"a'}}


def says(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta}]}


CHUNKS: dict[str, object] = {
    "a word": {"id": "1", "model": "gpt-4o", **says(content=" a"), "usage": None},
    "nothing": {"choices": []},
    "no choices": {"choices": None, "model": ""},
    "empty": says(content=""),
    "a role": says(role="assistant", content=""),
    "a role and a word": says(role="assistant", content="a"),
    "an escape": {**says(content='"usage":null\n'), "usage": None},
    "no content": says(content=None),
    "parts": says(content=[{"text": "a"}, {"thinking": ["b"]}]),
    "a part": says(content={"text": "a"}),
    "a number": says(content=1),
    "reasoning": says(reasoning_content="a", reasoning="a", refusal="b"),
    "empty reasoning": says(reasoning_content="", reasoning="a"),
    "a refusal": says(refusal="a"),
    "a call": says(tool_calls=[CALL, {"function": None}, None]),
    "calls that are none": says(tool_calls=CALL),
    "a legacy call": says(function_call=CALL["function"]),
    "a completion": {"choices": [{"text": "a", "finish_reason": "stop"}]},
    "text in parts": {"choices": [{"text": [{"text": "a"}]}]},
    "an end": {"id": "2", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    "another choice": {"choices": [{"index": 1, "delta": {"content": "a"}}, {"index": 2}]},
    "an index that is none": {"choices": [{"index": "1", "delta": {"content": "a"}}]},
    "an index of null": {"choices": [{"index": None, "delta": {"content": "a"}}]},
    "a fraction for an index": {"choices": [{"index": 1.0, "delta": {"content": "a"}}]},
    "a delta that is none": {"choices": [{"delta": "a"}, 1, None, {"delta": None}]},
    "choices that are none": {"choices": {"delta": {"content": "a"}}},
    "a model that is none": {"model": 1, **says(content="a")},
    "a tier": {"service_tier": "flex", "choices": []},
    "a tier that is none": {"service_tier": {}, "choices": []},
    "usage": {"choices": [], "usage": USED},
    "usage beside a word": {**says(content="a"), "usage": USED},
    "usage in words": {**says(content="a"), "usage": "much"},
    "no usage in it": {"choices": [], "usage": {}},
    "Groq's usage": {**says(content="a"), "x_groq": {"usage": USED}},
    "Groq's nothing": {**says(content="a"), "x_groq": 0},
    "a list": [1],
}


class NoneIsPlain:
    """In place of the decoder by types."""

    def decode(self, data: bytes) -> None:
        raise msgspec.ValidationError


def told(stream: list[object], *, strip: bool) -> tuple[object, ...]:
    """All that a reader says of a stream that is cut."""
    reader = StreamReader(strip_usage=strip, may_be_cut=True)
    events = [b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n" for chunk in stream]
    passed = [reader.feed(event) for event in events]
    end = reader.cut(Usage(), model="m", request_id="1")
    return passed, reader.take_delivered(), reader.usage, reader.model, reader.service_tier, end


@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize("name", CHUNKS)
def test_plain_and_odd_chunks_are_read_alike(monkeypatch, name: str, strip: bool) -> None:
    monkeypatch.setattr(openai_chat_ending, "time", SimpleNamespace(time=lambda: 1))
    streams = [
        [CHUNKS[name]],
        [CHUNKS["a word"], CHUNKS[name], CHUNKS["a word"]],
        [CHUNKS[name], CHUNKS["an end"]],
    ]
    by_type = [told(stream, strip=strip) for stream in streams]
    monkeypatch.setattr(openai_chat_reader, "_plain", NoneIsPlain())
    assert [told(stream, strip=strip) for stream in streams] == by_type
