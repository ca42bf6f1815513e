"""Reading messages requests: what they ask, whatever they are made of."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, WireProtocol
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.tokens import count_tokens
from govmiddleware.protocols.anthropic_messages import JUDGED
from govmiddleware.protocols.registry import recognise

HELLO = [{"role": "user", "content": "Hello"}]
HASH = "5dd07c33da27e6d2968d94ea20bf47a7b090b6b158b82328d54da2909a108e84"
ACCOUNT = "0b1c2d3e-0000-4000-8000-000000000001"


def protocol_of(path: str) -> WireProtocol:
    protocol = recognise("POST", path)
    assert protocol is not None
    return protocol


MESSAGES, COUNT = protocol_of("/v1/messages"), protocol_of("/v1/messages/count_tokens")


def body_of(**fields: Any) -> RequestBody:
    given = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": HELLO, **fields}
    return RequestBody(json.dumps({name: value for name, value in given.items() if value != ...}).encode())


def read(**fields: Any) -> RequestInfo:
    return MESSAGES.read_request(body_of(**fields), query=b"beta=true")


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/messages", "anthropic.messages"),
        ("POST", "/anthropic/v1/messages/", "anthropic.messages"),
        ("POST", "/V1/Messages", "anthropic.messages"),
        ("POST", "/v1/messages/count_tokens", "anthropic.count_tokens"),
        ("GET", "/v1/messages", None),
        ("POST", "/v1/threads/thread_1/messages", None),  # OpenAI's assistants
        ("POST", "/messages", None),
        ("POST", "/v1/messages/batches", "anthropic.batches"),
        ("POST", "/v1/messages/1/count_tokens", None),
    ],
)
def test_a_route_is_recognised_by_method_and_suffix(method: str, path: str, name: str | None) -> None:
    found = recognise(method, path)
    assert (found.name if found else None) == name


def test_what_a_request_asks_for_is_read() -> None:
    info = read(stream=True, max_tokens=7, metadata={"user_id": "ann"}, system="Be kind.")
    assert (info.model, info.stream, info.output_tokens, info.user) == ("claude-sonnet-5", True, 7, "ann")
    assert (info.choices, info.generates, info.free, info.unknown_parts) == (1, True, False, 0)
    assert sorted(info.texts) == ["Be kind.", "Hello"]


@pytest.mark.parametrize("field", ["model", "messages", "max_tokens"])
@pytest.mark.parametrize("value", [..., None], ids=["absent", "null"])
def test_what_is_required_is_missed_by_its_name(field: str, value: object) -> None:
    assert refused(**{field: value}).param == field


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"system": 7}, "system"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"user_id": "x" * 129}}, "metadata.user_id"),
        ({"Max_Tokens": 9}, "Max_Tokens"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"service_tier": "priority"}, "service_tier"),
        ({"speed": "ludicrous"}, "speed"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"fallbacks": [{"model": "claude-opus-4-8"}]}, "fallbacks"),
        ({"n": 4}, "n"),
        ({"best_of": 4}, "best_of"),
        ({"max_completion_tokens": 9000}, "max_completion_tokens"),
        ({"num_predict": 9000}, "num_predict"),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": "9"}}, "thinking.budget_tokens"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.edits"),
        ({"tools": [{"type": "advisor_20260301", "model": "claude-opus-4-8"}]}, "tools[0].model"),
    ],
)
def test_what_would_lift_the_bound_or_the_price_is_refused(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "auto"},
        {"service_tier": "standard_only"},
        {"speed": "standard"},
        {"speed": None},
        {"inference_geo": "global"},
        {"max_tokens": 0},
        {"thinking": {"type": "enabled", "budget_tokens": 99}},
        {"thinking": {"type": "adaptive"}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"tools": [{"name": "model", "input_schema": {"type": "object"}, "model": "a word"}]},
    ],
)
def test_what_costs_no_more_passes(fields: dict[str, Any]) -> None:
    assert read(**fields).output_tokens == fields.get("max_tokens", 100)


@pytest.mark.parametrize(
    ("user_id", "user"),
    [
        (None, None),
        ("", None),
        ("ann", "ann"),
        (7, None),
        (f"user_{HASH}_account_{ACCOUNT}_session_{ACCOUNT}", ACCOUNT),
        (f"user_{HASH}_account__session_{ACCOUNT}", HASH),
        (json.dumps({"device_id": HASH, "account_uuid": ACCOUNT, "session_id": "s"}), ACCOUNT),
        (json.dumps({"device_id": HASH, "account_uuid": "", "session_id": "s"}), HASH),
        ('{"name": "ann"}', '{"name": "ann"}'),
        ("{ann", "{ann"),
    ],
)
def test_the_user_is_who_it_is_in_every_session(user_id: object, user: str | None) -> None:
    assert read(metadata={"user_id": user_id}).user == user


def test_everything_that_is_said_counts() -> None:
    blocks = [
        {"type": "text", "text": "TEXT", "cache_control": {"type": "ephemeral"}},
        {"type": "document", "source": {"type": "text", "data": "DOCUMENT"}, "title": "TITLE", "context": "CONTEXT"},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "PART"}]}},
        {"type": "search_result", "source": "SOURCE", "title": "FOUND", "content": [{"type": "text", "text": "HIT"}]},
        {"type": "thinking", "thinking": "THOUGHT", "signature": "SIGNATURE" * 50},
        {"type": "tool_use", "id": "toolu_1", "name": "CALL", "input": {"KEY": {"INNER": "VALUE"}}},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "RESULT"}]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "STRING"},
        {"type": "image", "source": {"type": "url", "url": "x"}, "text": "SMUGGLED"},
        {"type": "new_block", "whatever": ["UNKNOWN"]},
    ]  # fmt: skip
    info = read(
        messages=[{"role": "assistant", "content": blocks}],
        system=[{"type": "text", "text": "SYSTEM"}],
        tools=[{"name": "TOOL", "description": "ABOUT", "input_schema": {"PROPERTY": 1}}],
        output_config={"format": {"type": "json_schema", "schema": {"FORMAT": 1}}},
        added_later="LATER" * 30,
    )
    text = " ".join(info.texts)
    said = (
        "TEXT DOCUMENT TITLE CONTEXT PART SOURCE FOUND HIT THOUGHT CALL KEY INNER VALUE RESULT STRING SMUGGLED UNKNOWN"
        " SYSTEM TOOL ABOUT PROPERTY FORMAT LATER"
    )
    for word in said.split():
        assert word in text, word
    assert "SIGNATURE" not in text
    assert info.unknown_parts == 1  # the image


def test_what_is_not_text_is_a_part_of_unknown_size() -> None:
    data = "AAAA" * 3000
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/zip", "data": data}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "encrypted_content": data}]},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "data": data}}]},
    ]  # fmt: skip
    info = read(messages=[{"role": "user", "content": [*blocks, {"type": "text", "text": "What?"}]}])
    assert info.unknown_parts == len(blocks)
    assert count_tokens(info.texts) < 20


def test_what_is_elsewhere_is_a_part_of_unknown_size() -> None:
    assert read(tools=[{"type": "web_search_20250305", "name": "web_search"}]).unknown_parts == 1
    assert read(mcp_servers=[{"type": "url", "url": "https://example.org"}] * 2).unknown_parts == 2
    assert read(container={"skills": [{"type": "anthropic", "skill_id": "pptx"}]}).unknown_parts == 1
    assert read(container="container_1").unknown_parts == 0
    assert read(thread={"type": "continue", "previous_message_id": "msg_1"}).unknown_parts == 1


@pytest.mark.parametrize(
    ("thinking", "hides"),
    [(..., None), ({"type": "disabled"}, False), ({"type": "adaptive"}, True), ({"type": "enabled"}, True)],
)
def test_whether_output_may_be_hidden_is_told_by_thinking(thinking: object, hides: bool | None) -> None:
    assert read(thinking=thinking).hides_output is hides


@pytest.mark.parametrize(
    ("thinking", "tokens", "lowered"),
    [
        (None, 64, None),
        ({"type": "adaptive"}, 64, {"type": "adaptive"}),
        ({"type": "enabled", "budget_tokens": 2000}, 3000, {"type": "enabled", "budget_tokens": 2000}),
        ({"type": "enabled", "budget_tokens": 2000}, 2000, {"type": "enabled", "budget_tokens": 1999}),
        ({"type": "enabled", "budget_tokens": 2000}, 1025, {"type": "enabled", "budget_tokens": 1024}),
        ({"type": "enabled", "budget_tokens": 2000}, 1024, {"type": "disabled"}),
    ],
)
def test_a_lower_output_limit_leaves_thinking_below_it(
    thinking: object, tokens: int, lowered: object
) -> None:
    body = body_of(max_tokens=9000, thinking=thinking)
    MESSAGES.bound_output(body, tokens)
    sent = json.loads(body.serialise())
    assert (sent["max_tokens"], sent["thinking"]) == (tokens, lowered)
    assert MESSAGES.read_request(body).output_tokens == tokens


def test_usage_is_never_asked_for_as_it_always_comes() -> None:
    body = body_of(stream=True)
    before = body.serialise()
    assert MESSAGES.request_usage(body) is False
    assert body.serialise() == before


def test_another_model_in_the_address_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="different models"):
        MESSAGES.read_request(body_of(), query=b"beta=true&model=claude-opus-4-8")


def test_counting_tokens_names_its_model_and_nothing_else() -> None:
    info = COUNT.read_request(body_of(max_tokens=...))
    assert (info.model, info.free, info.generates, list(info.texts)) == ("claude-sonnet-5", True, False, [])
    with pytest.raises(InvalidRequest, match="'model' is missing"):
        COUNT.read_request(body_of(model=...))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
BLOCKS = st.lists(
    st.dictionaries(
        st.sampled_from(["type", "text", "source", "content", "input", "thinking", "data", "title"]),
        JSON | st.sampled_from(["image", "document", "tool_use", "thinking", "tool_result"]),
    ),
    max_size=4,
)


@given(st.dictionaries(st.sampled_from(sorted(JUDGED)), JSON), BLOCKS)
def test_any_json_is_read_or_refused(fields: dict[str, Any], blocks: list[Any]) -> None:
    body = body_of(**{"messages": [{"role": "user", "content": blocks}], **fields})
    for protocol in (MESSAGES, COUNT):
        with suppress(InvalidRequest):
            assert all(isinstance(text, str) for text in protocol.read_request(body).texts)


def test_a_user_that_is_nested_too_deeply_is_a_name_like_others() -> None:
    nested = '{"device_id": "d", "x": ' + "[" * 5_000
    with pytest.raises(InvalidRequest, match="longer than 128"):
        read(metadata={"user_id": nested})
