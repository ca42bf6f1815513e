"""Reading requests: what they ask, whatever they are made of."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.tokens import count_tokens
from govmiddleware.protocols import openai_chat
from govmiddleware.protocols.escapes import DEAR_MODES, OTHER_OUTPUT_LIMITS
from govmiddleware.protocols.models import OTHER_MODELS
from govmiddleware.protocols.registry import UNRECOGNISED, recognise

HELLO = [{"role": "user", "content": "Hello"}]


def chat_body(**fields: Any) -> RequestBody:
    return RequestBody(json.dumps({"model": "gpt-4o", "messages": HELLO, **fields}).encode())


def read(**fields: Any) -> RequestInfo:
    chat = recognise("POST", "/v1/chat/completions")
    assert chat is not None
    return chat.read_request(chat_body(**fields))


def refused(raw: bytes, path: str = "/v1/chat/completions", query: bytes = b"") -> InvalidRequest:
    protocol = recognise("POST", path)
    assert protocol is not None
    with pytest.raises(InvalidRequest) as caught:
        protocol.read_request(RequestBody(raw), path=path, query=query)
    return caught.value


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/chat/completions", "openai.chat"),
        ("POST", "/chat/completions", "openai.chat"),
        ("POST", "/any/prefix/chat/completions/", "openai.chat"),
        ("POST", "/openai/deployments/gpt-4o/chat/completions", "openai.chat"),
        ("POST", "/v1/embeddings", "openai.embeddings"),
        ("POST", "/V1/Chat/Completions", "openai.chat"),
        ("POST", "/v1/chat/completions\n", "openai.chat"),
        ("POST", "/v1/embeddings.", "openai.embeddings"),
        ("post", "/v1/chat/completions", "openai.chat"),
        ("GET", "/v1/chat/completions", None),
        ("POST", "/v1/completions", "openai.completions"),
        ("POST", "/openai/deployments/davinci/completions", "openai.completions"),
        ("POST", "/v1/responses", "openai.responses"),
        ("POST", "/openai/responses/", "openai.responses"),
        ("POST", "/v1/moderations", "openai.moderations"),
        ("GET", "/v1/responses/resp_1", None),
        ("POST", "/v1/responses/resp_1/cancel", None),
        ("POST", "/v1/chat/completions/chatcmpl-1", None),
        ("POST", "/chatcompletions", None),
        ("GET", "/v1/models", None),
    ],
)
def test_a_route_is_recognised_by_method_and_suffix(method: str, path: str, name: str | None) -> None:
    found = recognise(method, path)
    assert (found.name if found else None) == name
    assert UNRECOGNISED.recognises(method, path) is False


def test_what_a_request_asks_for_is_read() -> None:
    info = read(stream=True, n=3, max_tokens=7, user="ann")
    assert (info.model, info.stream, info.choices, info.output_tokens, info.user) == (
        "gpt-4o",
        True,
        3,
        7,
        "ann",
    )
    assert info.generates
    assert list(info.texts) == ["Hello"]
    assert (info.unknown_parts, list(info.predicted_texts)) == (0, [])


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_completion_tokens": 5}, 5),
        ({"max_tokens": 9, "max_completion_tokens": 5}, 9),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
    ],
)
def test_of_two_output_limits_the_larger_is_the_bound(fields: dict[str, Any], limit: int | None) -> None:
    assert read(**fields).output_tokens == limit


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({}, None),
        ({"user": ""}, None),
        ({"user": "ann"}, "ann"),
        ({"user": "ann", "safety_identifier": "bob"}, "bob"),
        ({"metadata": {"user_id": "eve"}}, "eve"),
        ({"metadata": {"user_id": 7}}, None),
        ({"user": "ann", "metadata": {"user_id": "eve"}}, "ann"),
    ],
)
def test_the_end_user_is_read_from_the_protocols_own_fields(fields: dict[str, Any], user: str | None) -> None:
    assert read(**fields).user == user


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("model", None, "model"),
        ("model", "", "model"),
        ("model", 7, "model"),
        ("model", "m" * 513, "model"),
        ("messages", None, "messages"),
        ("messages", {}, "messages"),
        ("messages", "hello", "messages"),
        ("messages", ["hello"], "messages[0]"),
        ("messages", [*HELLO, None], "messages[1]"),
        ("messages", [{"content": 7}], "messages[0].content"),
        ("messages", [{"content": {}}], "messages[0].content"),
        ("messages", [{"content": "x", "name": 7}], "messages[0].name"),
        ("tools", {}, "tools"),
        ("tools", [7], "tools[0]"),
        ("functions", "f", "functions"),
        ("response_format", "json", "response_format"),
        ("stream", "true", "stream"),
        ("stream", 1, "stream"),
        ("stream_options", [], "stream_options"),
        ("n", True, "n"),
        ("n", 1.0, "n"),
        ("n", 0, "n"),
        ("n", 129, "n"),
        ("n", -1, "n"),
        ("n", "2", "n"),
        ("best_of", 1000, "best_of"),
        ("max_tokens", -1, "max_tokens"),
        ("max_tokens", True, "max_tokens"),
        ("max_tokens", 2**31, "max_tokens"),
        ("max_tokens", 10**400, "max_tokens"),
        ("max_tokens", 1e300, "max_tokens"),
        ("max_completion_tokens", "5", "max_completion_tokens"),
        ("user", 7, "user"),
        ("user", "u" * 513, "user"),
        ("safety_identifier", [], "safety_identifier"),
        ("metadata", "x", "metadata"),
        ("prediction", "x", "prediction"),
        ("models", ["gpt-5-pro"], "models"),
        ("fallbacks", ["gpt-5-pro"], "fallbacks"),
        ("context_window_fallbacks", [{"gpt-4o": ["gpt-5-pro"]}], "context_window_fallbacks"),
        ("extra_body", {"model": "gpt-5-pro"}, "extra_body"),
        ("additional_drop_params", ["max_tokens"], "additional_drop_params"),
        ("max_output_tokens", 4000, "max_output_tokens"),
        ("maxTokens", 4000, "maxTokens"),
        ("num_predict", -1, "num_predict"),
        ("n_predict", -1, "n_predict"),
        ("num_retries", 50, "num_retries"),
        ("timeout", 1, "timeout"),
        ("Model", "gpt-5-pro", "Model"),
        ("MAX_TOKENS", 1, "MAX_TOKENS"),
    ],
)
def test_a_wrong_field_is_an_invalid_request_that_names_it(field: str, value: object, param: str) -> None:
    raw = json.dumps({"model": "gpt-4o", "messages": HELLO, field: value}).encode()
    assert refused(raw).param == param


@pytest.mark.parametrize(
    "messages",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'[{"content":' + b"[" * 5_000 + b"]" * 5_000 + b"}]",
        b'[{"content":[{"a":' * 3_000 + b"1" + b"}]}]" * 3_000,
        b'[{"content":"\\ud800"}]',
        b'[{"content":"\xff"}]',
        b'[{"content":NaN}]',
        b'[{"content":1e999}]',
        b"1" * 10_000,
        b'[{"content":"x"}',
    ],
)
def test_hostile_messages_are_an_invalid_request_and_nothing_worse(messages: bytes) -> None:
    chat = recognise("POST", "/chat/completions")
    assert chat is not None
    with pytest.raises(InvalidRequest):  # by the body itself, or by the protocol
        chat.read_request(RequestBody(b'{"model":"gpt-4o","messages":' + messages + b"}"))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "messages",
    "tools",
    "functions",
    "response_format",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "user",
]


@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "metadata", "prediction", "web_search_options"]), json_values, max_size=4
    )
)
def test_any_json_is_read_or_refused(fields: dict[str, Any]) -> None:
    try:
        info = read(**fields)
    except InvalidRequest:
        return
    assert 1 <= info.choices <= 128
    assert all(isinstance(text, str) for text in info.texts)


@given(st.lists(json_values, max_size=3))
def test_any_tools_are_read_or_refused_for_every_family(tools: list[Any]) -> None:
    function = {"type": "function", "function": {"name": "f", "parameters": tools[0] if tools else {}}}
    for model in ("gpt-4o", "claude-sonnet-4-5"):
        try:
            read(model=model, tools=[*tools, function])
        except InvalidRequest:
            pass


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "description": "SAID"},
        {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "string", "description": "SAID"}}}},
        {"type": "object", "properties": {"x": {"anyOf": [{"type": "null"}, {"type": "string", "description": "SAID"}]}}},
        {"type": "object", "properties": {"x": {"type": "string", "properties": {"SAID": {"type": "string"}}}}},
        {"type": "object", "properties": {}, "required": ["SAID"]},
        {"type": "object", "properties": {}, "required": [["SAID"]]},
        {"type": "object", "properties": {"x": {"type": "enum", "description": "SAID"}}},
        {"type": "object", "properties": {"x": {"enum": "SAID"}}},
        {"type": "object", "properties": {"x": {"type": ["SAID"]}}},
        {"anyOf": [{"type": "object", "properties": {"SAID": {"type": "string"}}}]},
    ],
)  # fmt: skip
def test_nothing_that_a_tools_schema_says_goes_uncounted(parameters: dict[str, Any]) -> None:
    info = read(tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    assert "SAID" in "".join(info.texts)


def test_a_hundred_thousand_messages_are_read_soon() -> None:
    begun = time.perf_counter()
    info = read(messages=HELLO * 100_000)
    assert len(info.texts) == 100_000
    assert info.overhead_tokens >= 300_000
    assert time.perf_counter() - begun < 3


def test_everything_that_reaches_the_model_is_counted() -> None:
    messages = [
        {"role": "system", "content": "SYSTEM", "name": "NAME"},
        {"role": "user", "content": [{"type": "text", "text": "PART"}, {"type": "new_kind", "inner": {"deep": "DEEP"}}]},
        {"role": "assistant", "content": None, "reasoning_content": "THOUGHT", "refusal": "REFUSAL"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "CALL", "arguments": "ARGUMENTS"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "RESULT"},
        {"role": "user", "content": "x", "tool_call_id": "LONG" * 100},
    ]  # fmt: skip
    tool = {
        "type": "function",
        "function": {"name": "TOOL", "description": "ABOUT", "parameters": {"KEY": 1}},
    }
    schema = {"type": "json_schema", "json_schema": {"name": "SCHEMA"}}
    text = " ".join(read(messages=messages, tools=[tool], response_format=schema).texts)
    said = "SYSTEM NAME PART DEEP THOUGHT REFUSAL CALL ARGUMENTS RESULT LONGLONG TOOL ABOUT KEY SCHEMA"
    for word in said.split():
        assert word in text, word


def test_a_plain_request_is_read_as_one_with_more_in_it() -> None:
    """Where there are no other fields than `_PLAIN`, and no messages but of a role and a text, reading is shorter."""
    given_fields = dict.fromkeys(sorted(openai_chat._PLAIN - {"model", "messages"}), 1)
    given_fields |= {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 7}
    messages = [
        {"role": "system", "content": "Be brief."},
        *HELLO,
        {"role": "user", "content": '{"ttl": "1h"}'},
    ]
    plain = read(**given_fields, messages=messages)
    assert read(**given_fields, messages=messages, transforms=[]) == plain
    odd = [{**message, "tool_call_id": None} for message in messages]
    assert read(**given_fields, messages=odd) == plain
    assert openai_chat._PLAIN.isdisjoint(
        [*openai_chat.HIDING, *OTHER_MODELS, *OTHER_OUTPUT_LIMITS, *DEAR_MODES]
    )


def test_media_are_parts_of_unknown_size_and_never_text() -> None:
    data = "data:image/png;base64," + "AAAA" * 3000
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": data},
        {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "other", "payload": data},
    ]
    info = read(messages=[{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}])
    assert info.unknown_parts == 6
    assert count_tokens(info.texts) < 20


def test_hosted_tools_are_parts_of_unknown_size() -> None:
    assert read(tools=[{"type": "web_search"}]).unknown_parts == 1
    assert read(web_search_options={}).unknown_parts == 1


def test_a_prediction_counts_as_output_that_may_be_billed() -> None:
    info = read(prediction={"type": "content", "content": [{"type": "text", "text": "GUESS"}]})
    assert list(info.predicted_texts) == ["GUESS"]
    assert "GUESS" not in info.texts


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/openai/deployments/gpt-5-pro/chat/completions", b""),
        ("/engines/openai/gpt-5-pro/chat/completions", b""),
        ("/v1/chat/completions", b"model=gpt-5-pro"),
        ("/v1/chat/completions", b"a=b&m%6Fdel=gpt-5-pro"),
    ],
)
def test_another_model_in_the_address_is_refused(path: str, query: bytes) -> None:
    raw = json.dumps({"model": "gpt-4o-mini", "messages": HELLO}).encode()
    assert refused(raw, path, query).param == "model"


def test_a_model_in_the_address_alone_is_the_model() -> None:
    chat = recognise("POST", "/openai/deployments/gpt-4o/chat/completions")
    assert chat is not None
    body = RequestBody(json.dumps({"messages": HELLO}).encode())
    assert chat.read_request(body, path="/openai/deployments/gpt-4o/chat/completions").model == "gpt-4o"
    assert (
        chat.read_request(chat_body(), path="/openai/deployments/gpt-4o/chat/completions").model == "gpt-4o"
    )
    assert chat.read_request(chat_body(), query=b"model=gpt-4o&api-version=1").model == "gpt-4o"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"max_tokens": 64}),
        ({"model": "o3-mini"}, {"max_completion_tokens": 64}),
        ({"model": "openai/gpt-5-mini"}, {"max_completion_tokens": 64}),
        ({"max_completion_tokens": 900}, {"max_completion_tokens": 64}),
        ({"max_tokens": 900, "max_completion_tokens": 900}, {"max_tokens": 64, "max_completion_tokens": 64}),
    ],
)
def test_an_output_limit_is_written_by_the_name_that_the_upstream_heeds(
    fields: dict[str, Any], expected: dict[str, int]
) -> None:
    chat = recognise("POST", "/chat/completions")
    assert chat is not None
    body = chat_body(**fields)
    chat.bound_output(body, 64)
    sent = json.loads(body.serialise())
    assert {name: value for name, value in sent.items() if name.startswith("max_")} == expected


@pytest.mark.parametrize(
    ("fields", "edited", "options"),
    [
        ({}, False, None),
        ({"stream": False}, False, None),
        ({"stream": True}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": None}, True, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, {"include_usage": True}),
        (
            {"stream": True, "stream_options": {"include_usage": True, "x": 1}},
            False,
            {"include_usage": True, "x": 1},
        ),
        ({"stream": True, "stream_options": {"x": [1.50]}}, True, {"x": [1.5], "include_usage": True}),
    ],
)
def test_a_stream_is_asked_for_its_usage(fields: dict[str, Any], edited: bool, options: object) -> None:
    chat = recognise("POST", "/chat/completions")
    assert chat is not None
    body = chat_body(**fields)
    before = body.serialise()
    assert chat.request_usage(body) is edited
    assert json.loads(body.serialise()).get("stream_options") == options
    assert edited or body.serialise() == before


@pytest.mark.parametrize(
    ("given_input", "texts", "tokens"),
    [
        ("hello", ["hello"], 0),
        (["a", "b"], ["a", "b"], 0),
        ([1, 2, 3], [], 3),
        ([[1, 2], [3]], [], 3),
        ([], [], 0),
    ],
)
def test_embeddings_take_texts_and_token_ids(given_input: object, texts: list[str], tokens: int) -> None:
    embeddings = recognise("POST", "/v1/embeddings")
    assert embeddings is not None
    raw = json.dumps({"model": "text-embedding-3-small", "input": given_input, "user": "ann"}).encode()
    info = embeddings.read_request(RequestBody(raw))
    assert (list(info.texts), info.input_tokens, info.generates, info.user) == (texts, tokens, False, "ann")


@pytest.mark.parametrize(
    "given_input", [None, 7, True, {}, [None], [True], [1.5], [[1, "a"]], [[True]], [["a"]], [{}]]
)
def test_other_input_for_embeddings_is_refused(given_input: object) -> None:
    raw = json.dumps({"model": "text-embedding-3-small", "input": given_input}).encode()
    assert refused(raw, "/v1/embeddings").param == "input"


def test_embeddings_of_other_models_are_refused_too() -> None:
    raw = json.dumps({"model": "a", "input": "x", "fallbacks": ["b"]}).encode()
    assert refused(raw, "/v1/embeddings").param == "fallbacks"


@pytest.mark.parametrize(
    "fields",
    [
        {"prediction": {"type": "content", "content": "The answer."}},
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}},
        {"include_reasoning": False},
    ],
)
def test_output_that_is_billed_and_not_shown_as_text_is_hidden(fields: dict[str, Any]) -> None:
    assert read(**fields).hides_output is True
    assert read().hides_output is None


@pytest.mark.parametrize("kind", ["image_generation", "openrouter:image_generation"])
def test_a_tool_that_has_another_model_draw_is_refused(kind: str) -> None:
    error = refused(json.dumps({"model": "gpt-4o", "messages": HELLO, "tools": [{"type": kind}]}).encode())
    assert "unpriced" in str(error)
    assert error.param == "tools"
