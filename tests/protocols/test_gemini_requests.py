"""Reading Gemini requests: what they ask, in either spelling, whatever they are made of."""

from __future__ import annotations

import base64
import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.gemini_config import JUDGED as CONFIG
from govmiddleware.protocols.gemini_generate import JUDGED
from govmiddleware.protocols.registry import recognise

API = "/v1beta/models/gemini-2.5-flash:"
VERTEX = "/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-flash:"
HELLO = [{"role": "user", "parts": [{"text": "Hello"}]}]


def body_of(**fields: Any) -> RequestBody:
    given = {"contents": HELLO, **fields}
    return RequestBody(json.dumps({name: value for name, value in given.items() if value != ...}).encode())


def read_at(path: str, body: RequestBody, query: str = "") -> RequestInfo:
    protocol = recognise("POST", path)
    assert protocol is not None
    return protocol.read_request(body, path=path, query=query.encode())


def read(**fields: Any) -> RequestInfo:
    return read_at(API + "generateContent", body_of(**fields))


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (API + "generateContent", "gemini"),
        (API + "streamGenerateContent", "gemini"),
        (VERTEX + "streamGenerateContent", "gemini"),
        ("/v1beta/tunedModels/mine:generateContent/", "gemini"),
        (API + "countTokens", "gemini.count_tokens"),
        (VERTEX + "computeTokens", "gemini.count_tokens"),
        (API + "embedContent", "gemini.embeddings"),
        (API + "batchEmbedContents", "gemini.embeddings"),
        (API + "batchGenerateContent", "gemini.batches"),
        (API + "predict", None),
        ("/v1beta/models", None),
    ],
)
def test_a_route_is_recognised_by_the_method_of_the_model(path: str, name: str | None) -> None:
    found = recognise("POST", path)
    assert (found.name if found else None) == name
    assert recognise("GET", path) is None


def test_what_a_request_asks_for_is_read_in_either_spelling() -> None:
    config = {"maxOutputTokens": 7, "candidateCount": 2}
    snake = {"max_output_tokens": 7, "candidate_count": 2}
    system = {"parts": {"text": "Be kind."}}
    for fields in (
        {"systemInstruction": system, "generationConfig": config},
        {"system_instruction": system, "generation_config": snake},
    ):
        info = read(**fields)
        assert (info.model, info.output_tokens, info.choices, info.stream) == (
            "gemini-2.5-flash",
            7,
            2,
            False,
        )
        assert sorted(info.texts) == ["Be kind.", "Hello"]


@pytest.mark.parametrize("path", [API, VERTEX])
def test_the_address_says_whether_the_answer_is_a_stream(path: str) -> None:
    info = read_at(path + "streamGenerateContent", body_of(), "alt=sse&key=x&prettyPrint=false")
    assert (info.model, info.stream) == ("gemini-2.5-flash", True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"contents": ...}, "contents"),
        ({"contents": None}, "contents"),
        ({"generationConfig": []}, "generationConfig"),
        ({"generationConfig": {"maxOutputTokens": 0}}, "maxOutputTokens"),
        ({"generationConfig": {"maxOutputTokens": "9"}}, "maxOutputTokens"),
        ({"generationConfig": {"candidateCount": 9}}, "candidateCount"),
        ({"generationConfig": {"maxOutputTokens": 5, "max_output_tokens": 5000}}, "maxOutputTokens"),
        ({"generationConfig": {"MaxOutputTokens": 5}}, "MaxOutputTokens"),
        ({"generationConfig": {}, "generation_config": {"maxOutputTokens": 5}}, "generationConfig"),
        ({"generationConfig": {"routingConfig": {"autoMode": {}}}}, "routingConfig"),
        ({"generationConfig": {"model_config": {"featureSelectionPreference": 1}}}, "model_config"),
        ({"model": "models/gemini-2.5-pro"}, "model"),
        ({"config": {"maxOutputTokens": 5000}}, "config"),
        ({"maxOutputTokens": 5}, "maxOutputTokens"),
        ({"fallbacks": ["gemini-2.5-pro"]}, "fallbacks"),
        ({"serviceTier": "priority"}, "serviceTier"),
        ({"service_tier": "PRIORITY"}, "service_tier"),
        ({"contents": [{"parts": [{"inlineData": {}, "inline_data": {}}]}]}, "contents"),
    ],
)  # fmt: skip
def test_what_could_cost_more_than_it_is_judged_to_is_refused(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_what_costs_no_more_passes() -> None:
    assert read(model="models/gemini-2.5-flash", serviceTier="flex").output_tokens is None
    assert read(generationConfig=None, toolConfig={"x": "y"}).choices == 1


@pytest.mark.parametrize(
    "query", ["fields=candidates", "%24fields=x", "$httpMethod=GET", "access_token=x", "model=x"]
)
def test_a_parameter_that_changes_what_is_asked_or_answered_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest, match="not supported"):
        read_at(API + "generateContent", body_of(), query)


def test_what_was_tuned_or_deployed_is_not_taken_for_a_model_of_its_name() -> None:
    for name in ("tunedModels/gemini-2.5-flash", "endpoints/gemini-2.5-flash"):
        assert read_at(f"/v1/projects/p/locations/l/{name}:generateContent", body_of()).model == name


@pytest.mark.parametrize("path", ["/v1/models/a/models/b:generateContent", "/v1/x:generateContent"])
def test_an_address_that_names_no_model_or_two_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_at(path, body_of())
    assert caught.value.param == "model"


def test_of_duplicate_limits_only_the_one_that_was_judged_is_sent_on() -> None:
    body = RequestBody(
        b'{"contents": [], "generationConfig": {"maxOutputTokens": 9000, "maxOutputTokens": 5}}'
    )
    assert read_at(API + "generateContent", body).output_tokens == 5
    assert body.serialise().count(b"maxOutputTokens") == 1


@pytest.mark.parametrize(
    "fields", [{}, {"generationConfig": {"topK": 1}}, {"generation_config": {"max_output_tokens": 9000}}]
)
def test_an_output_limit_is_written_where_the_client_would(fields: dict[str, Any]) -> None:
    protocol = recognise("POST", API + "generateContent")
    assert protocol is not None
    body = body_of(**fields)
    protocol.bound_output(body, 64)
    assert read_at(API + "generateContent", body).output_tokens == 64
    assert len(list(body.names())) == 2


@pytest.mark.parametrize(
    ("model", "config", "hides"),
    [
        ("gemini-2.5-flash", {}, None),
        ("gemini-2.5-flash", {"thinkingConfig": {"thinking_budget": 0}}, False),
        ("gemini-3-flash", {"thinkingConfig": {"thinkingBudget": 0}}, None),
        ("gemini-2.0-flash", {"responseModalities": ["TEXT"]}, False),
        ("gemini-2.0-flash", {"responseModalities": ["TEXT", "IMAGE"]}, True),
    ],
)
def test_whether_output_may_be_hidden_is_told_by_thinking_and_modalities(
    model: str, config: dict[str, Any], hides: bool | None
) -> None:
    path = f"/v1beta/models/{model}:streamGenerateContent"
    assert read_at(path, body_of(generationConfig=config)).hides_output is hides


PARTS = [
    {"text": "TEXT"},
    {"thought": True, "text": "THOUGHT", "thoughtSignature": "SIGNATURE" * 50},
    {"function_call": {"id": "1", "name": "CALL", "args": {"KEY": {"INNER": "VALUE"}}}},
    {"functionResponse": {"name": "CALLED", "response": {"result": "RESULT"}, "parts": [{"text": "ATTACHED"}]}},
    {"executableCode": {"language": "PYTHON", "code": "CODE"}},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "PRINTED"}},
    {"inline_data": {"mime_type": "text/plain", "data": base64.b64encode(b"FILE").decode()}},
    {"newPart": ["UNKNOWN"]},
]  # fmt: skip


@pytest.mark.parametrize("path", [API, VERTEX])
def test_everything_that_is_said_counts(path: str) -> None:
    function = {
        "name": "TOOL",
        "description": "ABOUT",
        "parameters": {"properties": {"PROPERTY": {"enum": ["ENUM"]}}},
    }
    fields = {
        "contents": [{"parts": PARTS}],
        "tools": {"function_declarations": function},
        "generationConfig": {"responseSchema": {"properties": {"ANSWER": {"type": "STRING"}}}},
        "addedLater": "LATER" * 30,
    }
    info = read_at(path + "generateContent", body_of(**fields))
    text = " ".join(info.texts)
    said = (
        "TEXT THOUGHT CALL KEY INNER VALUE CALLED RESULT ATTACHED CODE PRINTED FILE UNKNOWN TOOL ABOUT PROPERTY ENUM"
        " ANSWER LATER"
    )
    for word in said.split():
        assert word in text, word
    assert "SIGNATURE" not in text
    assert info.unknown_parts == 0


def test_what_is_elsewhere_is_a_part_of_unknown_size() -> None:
    pdf = {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0xLjQK" * 1000}}
    parts = [pdf, {"fileData": {"fileUri": "gs://x/y"}}, {"functionResponse": {"name": "f", "parts": [pdf]}}]
    assert read(contents=[{"parts": parts}]).unknown_parts == 3
    assert read(tools=[{"googleSearch": {}}, {"codeExecution": {}, "urlContext": {}}]).unknown_parts == 3
    assert read(cachedContent="cachedContents/1").unknown_parts == 1


def test_the_thoughts_of_a_signature_count_where_google_counts_them() -> None:
    contents = [{"parts": [{"text": "x", "thoughtSignature": "s" * 4000}]}]
    overheads = [
        read_at(path, body_of(contents=contents)).overhead_tokens
        for path in (
            API + "generateContent",
            "/v1beta/models/gemini-3-flash:generateContent",
            VERTEX.replace("2.5", "3") + "generateContent",
        )
    ]
    assert overheads == [1, 826, 0]


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gemini-2.0-flash", (540, 360), 1806),
        ("gemini-2.0-flash", (384, 384), 258),
        ("gemini-2.0-flash", (4000, 3000), 258 * 25),
        ("gemini-2.5-flash", (4000, 3000), 258),
        ("gemini-3-flash", (540, 360), 1120),
    ],
)
def test_a_picture_counts_by_its_size(model: str, size: tuple[int, int], tokens: int) -> None:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", *size, 8, 2, 0, 0, 0)
    part = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(head).decode()}}
    info = read_at(f"/v1beta/models/{model}:generateContent", body_of(contents=[{"parts": [part]}]))
    assert info.overhead_tokens == tokens + ("2.0" not in model)
    assert info.unknown_parts == 0


@pytest.mark.parametrize(
    ("kind", "file", "tokens"),
    [
        ("application/pdf", b"<</Type /Pages>> <</Type /Page>> <</Type/Page >>", 2 * 258),
        ("audio/mpeg", bytes(49_998), 200),
        ("video/mp4", bytes(117), 1),
    ],
)
def test_pages_are_counted_and_of_sounds_the_bytes(kind: str, file: bytes, tokens: int) -> None:
    part = {"inlineData": {"mimeType": kind, "data": base64.b64encode(file).decode()}}
    info = read(contents=[{"parts": [part]}])
    assert (info.overhead_tokens, info.unknown_parts) == (tokens + 1, 0)


def test_a_file_counts_as_what_it_is_said_to_be() -> None:
    head = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8) + struct.pack(">II", 1, 1) + b"%PDF-1.4").decode()
    for kind, unknown in (("image/png", 0), ("application/pdf", 1), ("model/obj", 1)):
        part = {"inlineData": {"mimeType": kind, "data": head}}
        assert read(contents=[{"parts": [part]}]).unknown_parts == unknown


def test_embeddings_have_the_one_model_of_their_address() -> None:
    content = {"parts": [{"text": "Hello"}]}
    path = "/v1beta/models/gemini-embedding-001:"
    single = read_at(path + "embedContent", body_of(contents=..., content=content))
    assert (single.texts, single.generates) == (["Hello"], False)
    requests = [{"model": "models/gemini-embedding-001", "content": content}] * 2
    assert (
        read_at(path + "batchEmbedContents", body_of(contents=..., requests=requests)).texts == ["Hello"] * 2
    )
    requests.append({"model": "models/another", "content": content})
    with pytest.raises(InvalidRequest) as caught:
        read_at(path + "batchEmbedContents", body_of(contents=..., requests=requests))
    assert caught.value.param == "requests[2].model"


def test_counting_tokens_is_free() -> None:
    info = read_at(API + "countTokens", body_of(generateContentRequest={"model": "models/x"}))
    assert (info.model, info.free, info.generates, list(info.texts)) == ("gemini-2.5-flash", True, False, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([
        "parts", "text", "inlineData", "inline_data", "fileData", "functionCall", "args", "functionResponse", "data",
        "mimeType", "thoughtSignature", "functionDeclarations", "parameters", "properties", "maxOutputTokens",
    ]), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*JUDGED, "requests", "content", "system_instruction"]), JSON),
    st.dictionaries(st.sampled_from(CONFIG), JSON),
    st.sampled_from([API, VERTEX]),
)
def test_any_json_is_read_or_refused(fields: dict[str, Any], config: dict[str, Any], path: str) -> None:
    for method in ("generateContent", "countTokens", "embedContent"):
        with suppress(InvalidRequest):
            info = read_at(path + method, body_of(**{"generationConfig": config, **fields}))
            assert all(isinstance(text, str) for text in info.texts)
