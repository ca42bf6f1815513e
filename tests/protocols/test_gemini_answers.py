"""Reading Gemini's answers: usage, the model, what was delivered, in JSON, events and streamed arrays."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.gemini_reader import JsonReader, StreamReader
from govmiddleware.protocols.json_array import ArraySplitter


def chunk(text: str = "Hi", reason: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": index}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "gemini-3-flash", **more}


def used(prompt: int, said: int, **more: Any) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": said, **more}}


def events(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in chunks)


def read_json(answer: object) -> JsonReader:
    reader = JsonReader()
    reader.feed(json.dumps(answer).encode())
    reader.close()
    return reader


def read_stream(raw: bytes) -> StreamReader:
    reader = StreamReader(may_be_cut=False)
    assert reader.feed(raw) == raw
    reader.close()
    return reader


def test_usage_is_normalised() -> None:
    reported = {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 20,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 132,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 10},
            {"modality": "AUDIO", "tokenCount": 40},
            {"modality": "DOCUMENT", "tokenCount": 30},
            {"modality": "IMAGE", "tokenCount": 8},
            {"modality": "VIDEO", "tokenCount": 12},
        ],
        "cacheTokensDetails": [
            {"modality": "AUDIO", "tokenCount": 25},
            {"modality": "IMAGE", "tokenCount": 5},
        ],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 6}, {"modality": "AUDIO"}],
        "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 20}],
    }
    assert read_json({**chunk(), "usageMetadata": reported}).usage == Usage(
        input_tokens=120,
        cached_tokens=60,
        output_tokens=12,
        reasoning_tokens=5,
        input_audio_tokens=40,
        input_image_tokens=58,
        input_video_tokens=12,
        cached_audio_tokens=25,
        cached_image_tokens=5,
        output_image_tokens=6,
    )


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (chunk(), None),
        ({**chunk(), "usageMetadata": {"trafficType": "ON_DEMAND"}}, None),
        (chunk(**used(-1, 2)), None),
        (chunk(**used(1, 2**50)), None),
        (chunk(**used(1, "2")), None),  # type: ignore[arg-type]
        ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}, Usage()),
        ({"embeddings": [], "usageMetadata": {"promptTokenCount": 3}}, Usage(input_tokens=3)),
    ],
)
def test_what_cannot_be_believed_is_no_usage_and_zero_is_left_out(
    answer: dict[str, Any], usage: Usage | None
) -> None:
    reader = read_json(answer)
    assert reader.usage == usage
    assert reader.take_delivered() == (["Hi"] if usage is None else [])


@pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-flash", 1), ("gemini-3-flash", 3)])
def test_searches_are_counted_as_the_model_is_billed(model: str, searches: int) -> None:
    def searched(index: int, *queries: str) -> dict[str, Any]:
        found = chunk(index=index, **used(1, 1), reason="STOP")
        found["modelVersion"] = model
        found["candidates"][0]["groundingMetadata"] = {"webSearchQueries": [*queries]}
        return found

    first, again, second = searched(0, "a"), searched(0, "a", "b"), searched(1, "a")
    both = {**again, "candidates": [*again["candidates"], *second["candidates"]]}
    for reader in (read_stream(events(first, again, second)), read_json(both)):
        assert reader.usage is not None
        assert reader.usage.web_searches == searches


def test_the_last_report_of_a_stream_counts_and_the_largest_of_one_that_broke_off() -> None:
    chunks = [chunk(**used(5, 40)), chunk(**used(5, 2)), chunk(**used(9, 3), reason="STOP")]
    whole = read_stream(events(*chunks))
    assert (whole.finished, whole.usage) == (True, Usage(input_tokens=9, output_tokens=3))
    broken = read_stream(events(*chunks[:2]))
    assert (broken.finished, broken.usage) == (False, Usage(input_tokens=5, output_tokens=40))


def test_a_stream_is_whole_when_every_candidate_has_its_reason_and_it_ends() -> None:
    reader = StreamReader(may_be_cut=False)
    reader.feed(events(chunk(index=0, reason="STOP"), chunk(index=1)))
    reader.close()
    assert not reader.finished
    assert read_stream(events(chunk(reason="STOP"), chunk(reason="STOP"))).finished
    assert read_stream(events({"promptFeedback": {"blockReason": "OTHER"}})).finished
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    assert not read_stream(events(chunk(), error)).finished
    assert not read_stream(json.dumps([chunk(), error]).encode()).finished
    assert not read_stream(json.dumps(error).encode()).finished


def test_what_the_model_generated_is_delivered() -> None:
    parts = [
        {"text": "THOUGHT", "thought": True},
        {"functionCall": {"name": "CALL", "args": {"KEY": "VALUE"}}},
        {"executableCode": {"language": "PYTHON", "code": "CODE"}},
        {"codeExecutionResult": {"output": "not generated"}},
        {"inlineData": {"data": "QUJD"}},
    ]
    said = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    expected = ["THOUGHT", "CALL", '{"KEY":"VALUE"}', "CODE"]
    assert read_stream(events(said)).take_delivered() == expected
    assert read_json(said).take_delivered() == expected


def test_an_element_too_large_to_keep_passes_in_pieces_and_the_next_is_read() -> None:
    splitter = ArraySplitter(largest_element=100)
    pieces = [
        *splitter.feed(b'[{"a": "' + b"x" * 150),
        *splitter.feed(b"y" * 150),
        *splitter.feed(b'"}, {"b": 1}]'),
    ]
    assert [whole for _, whole in pieces] == [False, False, False, True, True]
    assert pieces[-2][0] == b', {"b": 1}'
    assert splitter.close() == (b"", True)
    assert splitter.closed


def test_brackets_and_escapes_in_strings_are_text() -> None:
    array = [{"a": '}]"\\'}, {"b": ["[", {"c": '\\"{'}]}]
    raw = json.dumps(array).encode()
    for size in (1, 2, 3, len(raw)):
        splitter = ArraySplitter()
        pieces = [piece for at in range(0, len(raw), size) for piece in splitter.feed(raw[at : at + size])]
        assert [json.loads(piece.lstrip(b"[, ")) for piece, _ in pieces[:-1]] == array
        assert pieces[-1] == (b"]", True)


def test_a_long_string_in_many_chunks_is_scanned_once() -> None:
    """A second scan of what is held would take minutes."""
    splitter = ArraySplitter()
    splitter.feed(b'[{"a": "')
    for _ in range(5_000):
        splitter.feed(b"a bc\\n" * 60)
    assert [whole for _, whole in splitter.feed(b'"}]')] == [True, True]


STRAY = st.binary(max_size=60) | st.sampled_from(
    [
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"\\",
        b",",
        b"data: ",
        b"\r\n\r\n",
        events(chunk()),
        json.dumps(chunk()).encode(),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STRAY, max_size=8), st.booleans())
def test_any_bytes_pass_as_they_came(chunks: list[bytes], may_be_cut: bool) -> None:
    reader = StreamReader(may_be_cut=may_be_cut)
    passed = [reader.feed(each) for each in chunks]
    assert b"".join(passed) + reader.close() == b"".join(chunks)
    assert all(isinstance(text, str) for text in reader.take_delivered())


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["candidates", "content", "parts", "text", "usageMetadata", "promptTokenCount",
                             "groundingMetadata", "webSearchQueries", "index", "promptTokensDetails", "modality",
                             "functionCall", "args", "executableCode", "promptFeedback", "modelVersion"]),
            inner,
        ),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_json_is_read(value: Any) -> None:
    for raw in (events(value, value), json.dumps([value]).encode()):
        reader = read_stream(raw)
        reader.cut(Usage(), model="m", request_id="r")
    read_json(value)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_pieces_of_an_array_do_not_depend_on_its_chunks(data: st.DataObject) -> None:
    raw = json.dumps([chunk('a"]}\\'), chunk(), {}]).encode()
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    splitter = ArraySplitter()
    pieces = [
        piece for start, end in pairwise([0, *places, len(raw)]) for piece in splitter.feed(raw[start:end])
    ]
    assert pieces == ArraySplitter().feed(raw)
