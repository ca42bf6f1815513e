"""The responses protocol: what it reads out of requests and answers, and what it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.openai_responses import OpenAIResponses
from govmiddleware.protocols.readers import LARGEST_COUNT

RESPONSES = OpenAIResponses()
FUNCTION = {"type": "function", "name": "NAME", "parameters": {"type": "object", "properties": {"MEMBER": {"type": "string"}}}}  # fmt: skip
SCHEMA = {"type": "object", "properties": {"CITY": {"type": "string"}}, "required": ["CITY"], "additionalProperties": False}  # fmt: skip


def body_of(**fields: Any) -> RequestBody:
    return RequestBody(json.dumps({"model": "gpt-4o", "input": "Hello", **fields}).encode())


def read(**fields: Any) -> RequestInfo:
    return RESPONSES.read_request(body_of(**fields))


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    return caught.value


# Requests -----------------------------------------------------------------------------------------


def test_what_a_request_asks_for_is_read() -> None:
    info = read(stream=True, max_output_tokens=7, user="ann")
    assert (info.model, info.stream, info.output_tokens, info.user) == ("gpt-4o", True, 7, "ann")
    assert (info.choices, info.generates, info.runs_on, info.hides_output) == (1, True, False, None)
    assert read(user="ann", safety_identifier="bob").user == "bob"
    assert read(metadata={"user_id": "cid"}).user == "cid"
    assert read(background=True).runs_on


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 9},
        {"max_completion_tokens": 9},
        {"n": 3},
        {"num_predict": 9},
        {"maxOutputTokens": 9},
        {"additional_drop_params": ["max_output_tokens"]},
        {"service_tier": 7},
        {"fallbacks": ["gpt-5-pro"]},
        {"Max_Output_Tokens": 9},
        {"MAX_TOKENS": 9},
        {"max_output_tokens": 0},
        {"max_output_tokens": 2**40},
        {"max_output_tokens": "9"},
        {"model": None},
        {"input": 7},
        {"input": [7]},
        {"instructions": ["Be brief."]},
        {"tools": {}},
        {"stream": "yes"},
    ],
)
def test_what_could_lift_the_limit_or_the_price_is_refused_by_name(fields: dict[str, Any]) -> None:
    assert refused(**fields).param is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "image_generation"}]},
        {"tools": [{"type": "openrouter:image_generation"}]},
        {"tools": [{"type": "namespace", "tools": [{"type": "image_generation"}]}]},
        {"input": [{"type": "additional_tools", "tools": [{"type": "image_generation"}]}]},
        {"input": [{"type": "tool_search_output", "tools": [{"type": "image_generation"}]}]},
    ],
)
def test_a_tool_that_calls_another_model_is_refused_wherever_it_stands(fields: dict[str, Any]) -> None:
    assert "unpriced" in str(refused(**fields))


def test_an_output_limit_is_written_by_its_name() -> None:
    body = body_of(max_output_tokens=900)
    RESPONSES.bound_output(body, 64)
    assert json.loads(body.serialise())["max_output_tokens"] == 64


ITEMS = [
    {"role": "system", "content": "SYSTEM"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "PART"}]},
    {"role": "assistant", "content": [{"type": "output_text", "text": "SAID"}, {"type": "refusal", "refusal": "REFUSED"}]},
    {"type": "function_call", "name": "CALL", "arguments": "ARGUMENTS", "call_id": "c"},
    {"type": "function_call_output", "call_id": "c", "output": "RESULT"},
    {"type": "custom_tool_call", "name": "CUSTOM", "input": "GIVEN", "call_id": "d"},
    {"type": "local_shell_call", "action": {"command": ["COMMAND"], "type": "exec"}},
    {"type": "mcp_list_tools", "tools": [{"name": "REMOTE", "input_schema": {"SCHEMA": 1}}]},
    {"type": "new_kind", "inner": {"deep": "DEEP"}},
    {"type": "additional_tools", "tools": [{"type": "namespace", "name": "SPACE", "tools": [FUNCTION]}]},
    {"type": "program", "code": "CODE", "status": "LONG" * 100},
]  # fmt: skip


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5", "llama-4"])
def test_everything_that_reaches_the_model_is_counted(model: str) -> None:
    info = read(
        model=model,
        input=ITEMS,
        instructions="RULES",
        tools=[FUNCTION, {"type": "custom", "name": "PATCH", "format": {"definition": "GRAMMAR"}}],
        text={"format": {"type": "json_schema", "name": "FORM", "schema": SCHEMA}},
        prompt={"id": "pmpt_1", "variables": {"name": "VARIABLE"}},
        later={"unknown": "FIELD" * 30},
    )
    said = "\n".join(info.texts)
    words = """SYSTEM PART SAID REFUSED CALL ARGUMENTS RESULT CUSTOM GIVEN COMMAND REMOTE SCHEMA DEEP SPACE CODE LONG
        RULES NAME MEMBER PATCH GRAMMAR FORM CITY VARIABLE FIELD"""
    assert [word for word in words.split() if word not in said] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"reasoning": {"mode": "pro"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": None, "id": "msg_1"}]},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
        {"input": [{"type": "compaction", "id": "cmp_1"}]},
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "file_id": "f"}}]},
        {"input": [{"type": "image_generation_call", "result": "x" * 9999}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,x"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "x" * 9999}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"id": "audio_1"}}]}]},
        *({"tools": [{"type": kind}]} for kind in ("web_search", "file_search", "code_interpreter", "mcp")),
    ],
)  # fmt: skip
def test_what_is_not_in_the_request_is_a_part_of_unknown_size(fields: dict[str, Any]) -> None:
    info = read(**fields)
    assert info.unknown_parts == 1
    assert sum(map(len, info.texts)) < 200


def test_sealed_reasoning_counts_by_its_length_and_only_where_the_model_sees_it() -> None:
    asked, answered = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
    sealed = {"type": "reasoning", "encrypted_content": "x" * 7080, "summary": [{"text": "SUMMARY"}]}
    turn, call = [asked, sealed], {"type": "function_call_output", "call_id": "c", "output": "x"}

    def tokens(model: str, items: list[Any], **fields: Any) -> int:
        return read(model=model, input=items, **fields).overhead_tokens

    assert tokens("gpt-5", [*turn, call]) - tokens("gpt-5", [asked, call]) == 1000
    assert tokens("gpt-4o", [sealed | {"type": "compaction"}, asked]) - tokens("gpt-4o", [asked]) == 1000
    assert "SUMMARY" not in read(model="gpt-5", input=turn).texts
    assert "SUMMARY" in read(model="qwen3", input=turn).texts
    later = [*turn, answered, asked]
    without = [asked, answered, asked]
    assert tokens("gpt-5.4", later) == tokens("gpt-5.4", without)
    assert tokens("gpt-5.4", later, reasoning={"context": "all_turns"}) - tokens("gpt-5.4", without) == 1000
    assert tokens("gpt-5.6", later) - tokens("gpt-5.6", without) == 1000


def test_what_a_stream_may_not_show_is_known() -> None:
    assert read(reasoning={"effort": "low"}).hides_output
    assert read(background=True).hides_output
    assert read(tools=[{"type": "web_search"}]).hides_output
    assert read(context_management=[{"type": "compaction"}]).hides_output
    assert read(tools=[FUNCTION], reasoning={}).hides_output is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "tools", "name", "schema", "parameters", "x"]
            ),
            inner
            | st.sampled_from(["reasoning", "function", "namespace", "message", "input_image", "object"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)
names = ["input", "tools", "text", "instructions", "reasoning", "prompt", "conversation", "stream", "other"]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(names), json_values), st.sampled_from(["gpt-4o", "gpt-5", "qwen3"]))
def test_any_json_is_read_or_refused(fields: dict[str, Any], model: str) -> None:
    try:
        info = read(**fields, model=model)
    except InvalidRequest:
        return
    assert all(isinstance(text, str) for text in info.texts)


NESTED: list[Callable[[Any], Any]] = [
    lambda inner: {"type": "namespace", "tools": [inner]},
    lambda inner: {"type": "custom", "description": inner, "tools": [inner]},
    lambda inner: {"type": "function", "name": "f", "parameters": {"anyOf": [inner], "tools": [inner]}},
    lambda inner: {"type": "object", "properties": {"x": inner}},
]


@pytest.mark.parametrize("model", ["gpt-5", "qwen3"])
@pytest.mark.parametrize("nest", NESTED)
@pytest.mark.parametrize("depth", [9, 300, 5000])
def test_what_is_nested_deeply_is_read_or_refused(nest: Callable[[Any], Any], depth: int, model: str) -> None:
    """Written by hand: json.dumps gives up before we do."""
    before, _, behind = json.dumps(nest("HERE")).partition('"HERE"')
    behind = behind.replace('"HERE"', "0")
    deep = (before * depth + "0" + behind * depth).encode()
    for place in (b'"tools":[%s]', b'"input":[{"tools":[%s]}]', b'"text":{"format":{"schema":%s}}'):
        raw = b'{"model":"%s",%s}' % (model.encode(), place % deep)
        try:
            assert RESPONSES.read_request(RequestBody(raw)).model == model
        except InvalidRequest:
            pass


def test_many_items_are_read_soon() -> None:
    begun = time.process_time()
    assert len(read(input=[{"role": "user", "content": "x"}] * 20_000).texts) == 20_000
    assert time.process_time() - begun < 2


# Answers ------------------------------------------------------------------------------------------


def read_json(answer: dict[str, Any]) -> UsageReader:
    reader = RESPONSES.usage_reader(stream=False, usage_was_injected=False)
    reader.feed(json.dumps(answer).encode())
    reader.close()
    return reader


def read_events(*events: dict[str, Any]) -> UsageReader:
    reader = RESPONSES.usage_reader(stream=True, usage_was_injected=False)
    for event in events:
        reader.feed(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n")
    reader.close()
    return reader


USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 150,
}
READ = Usage(input_tokens=100, cached_tokens=60, cache_write_tokens=30, output_tokens=50, reasoning_tokens=20)


@pytest.mark.parametrize("ending", ["completed", "incomplete", "failed"])
def test_usage_comes_with_whichever_end(ending: str) -> None:
    response = {"model": "gpt-4o-2024-08-06", "status": ending, "usage": USAGE, "output": []}
    whole = read_json(response)
    streamed = read_events({"type": f"response.{ending}", "response": response})
    for reader in (whole, streamed):
        assert (reader.usage, reader.model, reader.finished) == (READ, "gpt-4o-2024-08-06", True)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_answer_that_is_still_to_come_is_not_whole(status: str) -> None:
    assert not read_json({"status": status, "usage": None, "output": []}).finished


def test_an_error_ends_a_stream() -> None:
    reader = read_events(
        {"type": "response.created", "response": {"usage": None}}, {"type": "error", "message": "no"}
    )
    assert (reader.finished, reader.usage) == (True, None)


def test_the_tier_that_served_is_told() -> None:
    assert read_json({"status": "completed", "usage": USAGE, "service_tier": "flex"}).service_tier == "flex"
    created = {"type": "response.created", "response": {"usage": None, "service_tier": "auto"}}
    completed = {"type": "response.completed", "response": {"usage": USAGE, "service_tier": "priority"}}
    assert read_events(created).service_tier is None, "which one is not decided"
    assert read_events(created, completed).service_tier == "priority"


def test_searches_are_as_told_or_else_counted() -> None:
    searches = [
        {"type": "web_search_call", "action": {"type": kind}} for kind in ("search", "open_page", "search")
    ]
    output = [*searches, {"type": "file_search_call"}]
    counted, told = {"usage": USAGE, "output": output}, {"web_search": {"num_requests": 5}}
    usage, as_told = read_json(counted).usage, read_json({**counted, "tool_usage": told}).usage
    assert usage is not None
    assert as_told is not None
    assert (usage.web_searches, usage.file_searches, as_told.web_searches) == (2, 1, 5)


OUTPUT = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "THOUGHT"}]},
    {"type": "message", "content": [{"type": "output_text", "text": "SAID"}, {"type": "refusal", "refusal": "NO"}]},
    {"type": "function_call", "name": "CALL", "arguments": "ARGUMENTS"},
]  # fmt: skip


def test_without_usage_what_was_delivered_is_told() -> None:
    assert sorted(read_json({"status": "completed", "output": OUTPUT}).take_delivered()) == sorted(
        ["THOUGHT", "SAID", "NO", "CALL", "ARGUMENTS"]
    )
    in_deltas = read_events(
        {"type": "response.output_text.delta", "output_index": 0, "delta": "SAI"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "D"},
        {"type": "response.output_item.done", "output_index": 0, "item": OUTPUT[1]},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "ARGUMENTS"},
        {"type": "response.output_item.done", "output_index": 1, "item": OUTPUT[2]},
        {"type": "response.audio.delta", "delta": "AAAA"},
    )
    assert in_deltas.take_delivered() == ["SAI", "D", "ARGUMENTS", "CALL"]
    at_once = read_events({"type": "response.output_item.done", "output_index": 0, "item": OUTPUT[2]})
    assert sorted(at_once.take_delivered()) == ["ARGUMENTS", "CALL"]


@pytest.mark.parametrize(
    "usage",
    [None, 7, [], {}, {"input_tokens": -1}, {"input_tokens": True}, {"input_tokens": "9"}, {"input_tokens": LARGEST_COUNT + 1}],
)  # fmt: skip
def test_usage_that_cannot_be_believed_is_none(usage: object) -> None:
    assert read_json({"status": "completed", "usage": usage, "output": []}).usage is None


def test_a_part_never_exceeds_its_whole() -> None:
    details = {"cached_tokens": 999, "cache_write_tokens": 999}
    usage = read_json({"usage": {**USAGE, "input_tokens_details": details}}).usage
    assert usage is not None
    assert (usage.cached_tokens, usage.cache_write_tokens) == (100, 100)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["usage", "output", "status", "model", "tool_usage", "type", "response"]), json_values
    )
)
def test_any_answer_is_read(answer: dict[str, Any]) -> None:
    read_json(answer)
    read_events(answer, {"type": "response.completed", "response": answer}, {"type": "x.delta", **answer})


@given(st.binary(max_size=200))
def test_any_bytes_pass_as_they_came(raw: bytes) -> None:
    for stream in (True, False):
        reader = RESPONSES.usage_reader(stream=stream, usage_was_injected=False)
        assert reader.feed(raw) + reader.close() == raw
