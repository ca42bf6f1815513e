"""Reading chat answers: usage, what was delivered, and taking out what we provoked."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.openai_chat_reader import (
    JsonReader,
    StreamReader,
)
from govmiddleware.protocols.openai_usage import read_usage
from govmiddleware.protocols.readers import LARGEST_ANSWER

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"
TRICKY = [
    "plain",
    "",
    '"usage":null',
    ',"usage": null,',
    '{"usage":null}',
    "data: [DONE]\n\n",
    'usage\\": null',
    "ünï 国际 😀",
    "\u2028\r\n",
]


def sse(chunk: object, *, spaced: bool = False) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(", ", ": ") if spaced else (",", ":")).encode() + b"\n\n"


def delta(content: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-4o",
        "choices": [choice],
        **more,
    }


def read(raw: bytes, *, strip: bool, places: list[int] | None = None) -> tuple[bytes, StreamReader]:
    reader = StreamReader(strip_usage=strip)
    bounds = [0, *sorted(place % (len(raw) + 1) for place in places or []), len(raw)]
    passed = b"".join(reader.feed(raw[start:end]) for start, end in pairwise(bounds))
    return passed + reader.close(), reader


@st.composite
def twin_streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """One answer as OpenAI sends it with include_usage, and without."""
    spaced = draw(st.booleans())
    with_usage, without = b"", b""
    azure: dict[str, Any] = {
        "choices": [],
        "prompt_filter_results": [{"prompt_index": 0}],
        "model": "",
        "id": "",
    }
    chunks = [azure] if draw(st.booleans()) else []
    chunks += [delta(content) for content in draw(st.lists(st.sampled_from(TRICKY), max_size=6))]
    for chunk in chunks:
        members = list(chunk.items())
        place = draw(st.integers(0, len(members)))
        usage = dict([*members[:place], ("usage", None), *members[place:]])
        with_usage += sse(usage, spaced=spaced)
        without += sse(chunk, spaced=spaced)
        if draw(st.booleans()):
            with_usage += b": ping\n\n"
            without += b": ping\n\n"
    extra = {"id": "chatcmpl-1", "choices": [], "usage": USAGE, "obfuscation": "x"}
    return with_usage + sse(extra, spaced=spaced) + DONE, without + DONE


@given(twin_streams(), st.lists(st.integers(0, 10_000), max_size=15))
def test_a_stripped_stream_is_byte_for_byte_what_the_client_asked_for(
    twins: tuple[bytes, bytes], places: list[int]
) -> None:
    with_usage, without = twins
    passed, reader = read(with_usage, strip=True, places=places)
    assert passed == without
    assert reader.usage == Usage(input_tokens=9, output_tokens=3)
    assert reader.finished


@given(twin_streams(), st.lists(st.integers(0, 10_000), max_size=15))
def test_unasked_no_byte_changes_and_no_chunk_waits(twins: tuple[bytes, bytes], places: list[int]) -> None:
    raw = twins[0]
    reader = StreamReader(strip_usage=False)
    bounds = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    for start, end in pairwise(bounds):
        assert reader.feed(raw[start:end]) == raw[start:end]
    assert reader.close() == b""
    assert reader.usage == Usage(input_tokens=9, output_tokens=3)


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_bytes_that_are_no_stream_pass_stripping_unchanged(chunks: list[bytes]) -> None:
    reader = StreamReader(strip_usage=True)
    assert b"".join(reader.feed(chunk) for chunk in chunks) + reader.close() == b"".join(chunks)


@pytest.mark.parametrize(
    ("event", "stripped"),
    [
        (b'data: {"a":1,"usage":null}\n\n', b'data: {"a":1}\n\n'),
        (b'data: {"a": 1, "usage": null}\n\n', b'data: {"a": 1}\n\n'),
        (b'data: {"usage":null,"a":1}\n\n', b'data: {"a":1}\n\n'),
        (b'data: {"usage": null, "a": 1}\n\n', b'data: {"a": 1}\n\n'),
        (b'data: {"usage":null}\n\n', b"data: {}\n\n"),
        (b'data: {"a":1 , "usage" : null , "b":2}\n\n', b'data: {"a":1  , "b":2}\n\n'),
        (b'data: {"a":1,"usage":null}\r\n\r\n', b'data: {"a":1}\r\n\r\n'),
        (b'event: x\ndata: {"a":1,"usage":null}\n\n', b'event: x\ndata: {"a":1}\n\n'),
        (b'data: {"a":{"usage":null},"usage":null}\n\n', b'data: {"a":{"usage":null}}\n\n'),
        (b'data: {"usage":null,"a":{"usage":null}}\n\n', b'data: {"a":{"usage":null}}\n\n'),
        (b'data: {"a":",\\"usage\\":null","usage":null}\n\n', b'data: {"a":",\\"usage\\":null"}\n\n'),
        (b'data: {"a":{"usage":null}}\n\n', b'data: {"a":{"usage":null}}\n\n'),
        (b'data: {"a":1,\ndata: "usage":null}\n\n', b'data: {"a":1,\ndata: "usage":null}\n\n'),
        (b'data: {\ndata: "usage":null,"a":1}\n\n', b'data: {\ndata: "usage":null,"a":1}\n\n'),
        (
            b'data: {"\\u0075sage":null,"a":{"usage":null}}\n\n',
            b'data: {"\\u0075sage":null,"a":{"usage":null}}\n\n',
        ),
    ],
)
def test_only_the_null_usage_at_the_top_level_is_taken_out(event: bytes, stripped: bytes) -> None:
    assert read(event, strip=True)[0] == stripped


def test_usage_that_comes_with_content_stays_with_it() -> None:
    raw = sse(delta("hi", usage=USAGE)) + DONE
    passed, reader = read(raw, strip=True)
    assert passed == raw
    assert reader.usage == Usage(input_tokens=9, output_tokens=3)


@pytest.mark.parametrize(
    ("choice", "stays"),
    [
        ({"index": 0, "delta": {}}, False),  # LiteLLM 1.106
        ({"index": 0, "delta": {}, "finish_reason": None, "logprobs": None}, False),
        ({"index": 0, "delta": {}, "finish_reason": "stop"}, True),  # Mistral, DeepSeek
        ({"index": 0, "delta": {"content": ""}}, True),
        ({"index": 0, "message": {"content": "hi"}}, True),
        ("hi", True),
    ],
)
def test_a_chunk_that_says_nothing_but_usage_is_taken_out(choice: object, stays: bool) -> None:
    said = sse(delta("hi"))
    extra = sse({"choices": [choice], "usage": USAGE})
    passed, reader = read(said + extra + DONE, strip=True)
    assert passed == (said + extra + DONE if stays else said + DONE)
    assert reader.usage == Usage(input_tokens=9, output_tokens=3)


def test_of_cumulative_reports_the_last_counts() -> None:
    reports = [{"prompt_tokens": 9, "completion_tokens": count} for count in (1, 2, 3)]
    _, reader = read(b"".join(sse(delta("x", usage=report)) for report in reports), strip=False)
    assert reader.usage == Usage(input_tokens=9, output_tokens=3)
    assert not reader.finished


def test_while_stripping_only_an_incomplete_event_is_held_back() -> None:
    reader = StreamReader(strip_usage=True)
    first, second = sse(delta("one")), sse(delta("two"))
    assert reader.feed(first + second[:10]) == first
    assert reader.feed(second[10:]) == second
    assert reader.feed(second[:10]) == b""
    assert reader.close() == second[:10]


def test_a_last_event_without_its_empty_line_is_read_and_stripped_too() -> None:
    raw = sse(delta("one", usage=None)) + sse({"choices": [], "usage": USAGE}) + b"data: [DONE]"
    passed, reader = read(raw, strip=True)
    assert passed == sse(delta("one")) + b"data: [DONE]"
    assert reader.finished


def test_all_that_a_model_said_is_delivered_once() -> None:
    function = {"name": "find", "arguments": '{"q":'}
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"refusal": "b"}}]},
        {"choices": [{"index": 0, "delta": {"reasoning_content": "c", "reasoning": "c"}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": "d"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": function}]}}]},
        {"choices": [{"index": 0, "delta": {"function_call": {"name": "old", "arguments": "{}"}}}]},
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": [{"type": "text", "text": "e"}, {"thinking": [{"text": "f"}]}]},
                }
            ]
        },
    ]
    _, reader = read(b"".join(map(sse, chunks)), strip=False)
    assert sorted(reader.take_delivered()) == sorted(
        ["a", "b", "c", "d", "find", '{"q":', "old", "{}", "e", "f"]
    )
    assert reader.take_delivered() == []


ODD: list[Any] = [None, True, -1, 1.5, "9", [], {}, {"a": 1}, [None], "x" * 50, 2**70]
odd = st.sampled_from(ODD)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(["choices", "usage", "model", "x_groq", "error"], odd))
)
def test_an_odd_answer_is_no_error(chunk: dict[str, Any]) -> None:
    for strip in (False, True):
        read(sse(chunk) + DONE, strip=strip)
    reader = JsonReader()
    reader.feed(json.dumps(chunk).encode())
    reader.close()
    reader.take_delivered()


@given(
    st.fixed_dictionaries(
        {"prompt_tokens": st.integers(0, 100) | odd},
        optional={
            "completion_tokens": odd,
            "prompt_tokens_details": odd
            | st.fixed_dictionaries({"cached_tokens": st.integers(0, 200) | odd}),
            "completion_tokens_details": odd
            | st.fixed_dictionaries({"reasoning_tokens": st.integers(0, 200) | odd}),
            "prompt_cache_hit_tokens": st.integers(0, 200) | odd,
        },
    )
)
def test_reported_usage_is_plausible_or_absent(usage: dict[str, Any]) -> None:
    reader = JsonReader()
    reader.feed(json.dumps({"usage": usage}).encode())
    reader.close()
    if reader.usage is not None:
        assert 0 <= reader.usage.cached_tokens <= reader.usage.input_tokens <= 2**40
        assert 0 <= reader.usage.reasoning_tokens <= reader.usage.output_tokens <= 2**40


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}, 4),
        (
            {
                "prompt_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 0},
                "prompt_cache_hit_tokens": 4,
            },
            0,
        ),
        ({"prompt_tokens": 10, "prompt_tokens_details": None, "prompt_cache_hit_tokens": 4}, 4),
        ({"prompt_tokens": 10, "cached_tokens": 4}, 4),
        ({"prompt_tokens": 10, "num_cached_tokens": 4}, 4),
    ],
)
def test_cached_tokens_are_found_where_each_provider_puts_them(usage: dict[str, Any], cached: int) -> None:
    reader = JsonReader()
    reader.feed(json.dumps({"usage": usage}).encode())
    reader.close()
    assert reader.usage == Usage(input_tokens=10, cached_tokens=cached)


@pytest.mark.parametrize(
    ("total", "output"),
    [
        (340, 320),  # xAI: reasoning stands beside the completion
        (30, 10),
        (341, 10),  # other sums say nothing
        (None, 10),
    ],
)
def test_reasoning_that_only_the_total_includes_is_output_too(total: int | None, output: int) -> None:
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "total_tokens": total,
        "completion_tokens_details": {"reasoning_tokens": 310},
    }
    _, streamed = read(sse(delta("4", usage=usage)) + DONE, strip=False)
    expected = Usage(20, output_tokens=output, reasoning_tokens=min(310, output))
    assert (streamed.usage, read_usage(usage)) == (expected, expected)


@pytest.mark.parametrize(
    ("told", "searches"),
    [
        ({"server_tool_use": {"web_search_requests": 2}}, 2),  # LiteLLM, of Anthropic
        ({"prompt_tokens_details": {"web_search_requests": 3}}, 3),  # LiteLLM, of Gemini and xAI
        ({"server_tool_use": None, "prompt_tokens_details": {"web_search_requests": 3}}, 3),
        ({"server_tool_use": {"tool_search_requests": 1, "web_search_requests": None}}, 0),
        ({"server_tool_use_details": {"web_search_requests": 4}}, 4),  # OpenRouter
        ({"num_search_queries": 5}, 5),  # Perplexity
    ],
)
def test_web_searches_are_found_where_each_provider_and_litellm_put_them(
    told: dict[str, Any], searches: int
) -> None:
    assert read_usage({**USAGE, **told}) == Usage(9, output_tokens=3, web_searches=searches)


@pytest.mark.parametrize(("kept", "expected"), [(2, 2), (60, 4), (None, 0)])
def test_cache_writes_for_an_hour_are_read_as_litellm_says_them(kept: int | None, expected: int) -> None:
    details = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": kept}
    prompt = {"cache_creation_tokens": 4, "cache_creation_token_details": details}
    usage = read_usage({**USAGE, "prompt_tokens_details": prompt})
    assert usage == Usage(9, output_tokens=3, cache_write_tokens=4, cache_write_1h_tokens=expected)


def test_groqs_stream_reports_usage_in_a_place_of_its_own() -> None:
    _, reader = read(sse({"choices": [], "x_groq": {"usage": USAGE}}) + DONE, strip=False)
    assert reader.usage == Usage(input_tokens=9, output_tokens=3)


def test_a_json_answer_without_usage_hands_over_its_texts() -> None:
    reader = JsonReader()
    answer = json.dumps({"model": "m", "choices": [{"message": {"content": "hello"}}]}).encode()
    assert [reader.feed(answer[:9]), reader.feed(answer[9:]), reader.close()] == [answer[:9], answer[9:], b""]
    assert reader.finished
    assert (reader.usage, reader.model) == (None, "m")
    assert reader.take_delivered() == ["hello"]


def test_a_cut_json_answer_is_not_finished_and_says_nothing() -> None:
    reader = JsonReader()
    reader.feed(b'{"usage":{"prompt_tokens":1},"choices":[')
    reader.close()
    assert (reader.finished, reader.usage, reader.take_delivered()) == (False, None, [])


def test_a_json_answer_is_not_kept_beyond_a_bound() -> None:
    reader = JsonReader()
    chunk = b" " * (1024 * 1024)
    for _ in range(LARGEST_ANSWER // len(chunk) + 2):
        assert reader.feed(chunk) is chunk
    assert not reader._kept
    reader.close()
    assert reader.usage is None


def test_deep_nesting_in_an_answer_is_no_error() -> None:
    deep = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b',"usage":null}'
    for strip in (False, True):
        assert read(b"data: " + deep + b"\n\n", strip=strip)[0] == b"data: " + deep + b"\n\n"
    reader = JsonReader()
    reader.feed(deep)
    reader.close()


def test_a_chunk_costs_microseconds() -> None:
    for strip in (False, True):
        reader = StreamReader(strip_usage=strip)
        chunk = sse(delta("word ", usage=None))
        begun = time.perf_counter()
        for _ in range(5_000):
            reader.feed(chunk)
        assert (time.perf_counter() - begun) / 5_000 < 100e-6  # about 5 and 10 when nothing else runs
        reader.take_delivered()


def test_pictures_seen_and_drawn_over_chat_are_read() -> None:
    usage = {
        **USAGE,
        "prompt_tokens_details": {"image_tokens": 4},
        "completion_tokens_details": {"image_tokens": 2},
    }
    assert read_usage(usage) == Usage(9, output_tokens=3, input_image_tokens=4, output_image_tokens=2)
    usage["prompt_tokens_details"] = usage["completion_tokens_details"] = {"image_tokens": 40}
    assert read_usage(usage) == Usage(9, output_tokens=3, input_image_tokens=9, output_image_tokens=3)


def test_sound_and_the_tier_of_service_are_read() -> None:
    usage = {
        **USAGE,
        "prompt_tokens_details": {"audio_tokens": 4, "cached_tokens": 0},
        "completion_tokens_details": {"audio_tokens": 2},
    }
    chunk = delta("Hello", usage=usage, service_tier="flex")
    expected = Usage(9, output_tokens=3, input_audio_tokens=4, output_audio_tokens=2)
    _, streamed = read(sse(delta("Hel")) + sse(chunk) + DONE, strip=False)
    whole = JsonReader()
    whole.feed(json.dumps(chunk).encode())
    whole.close()
    for reader in (streamed, whole):
        assert (reader.usage, reader.service_tier) == (expected, "flex")
