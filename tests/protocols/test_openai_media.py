"""OpenAI's pictures and sounds: what requests may cost, and what answers say was used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.models import read_model
from govmiddleware.protocols.openai_audio import OpenAISpeech, OpenAITranscriptions
from govmiddleware.protocols.openai_images import OpenAIImages
from govmiddleware.protocols.registry import recognise

DRAWN = {"input_tokens": 9, "output_tokens": 272, "total_tokens": 281}
HEARD = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}


def images(**fields: Any) -> RequestInfo:
    body = {"model": "gpt-image-1", "prompt": "A cat", **fields}
    return OpenAIImages("generations").read_request(RequestBody(json.dumps(body).encode()))


def speech(**fields: Any) -> RequestInfo:
    body = {"model": "tts-1", "input": "word " * 14, "voice": "alloy", **fields}
    return OpenAISpeech().read_request(RequestBody(json.dumps(body).encode()))


def fed(reader: UsageReader, answer: bytes, cuts: list[int] | None = None) -> UsageReader:
    ends = sorted({cut % (len(answer) + 1) for cut in cuts or []} | {0, len(answer)})
    passed = b"".join(
        reader.feed(answer[start:end]) for start, end in zip(ends, [*ends[1:], None], strict=True)
    )
    assert passed + reader.close() == answer
    return reader


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/images/generations", "openai.images.generations"),
        ("/openai/deployments/painter/images/edits", "openai.images.edits"),
        ("/v1/images/variations/", "openai.images.variations"),
        ("/openai/v1/audio/transcriptions", "openai.audio.transcriptions"),
        ("/v1/audio/translations", "openai.audio.translations"),
        ("/v1/audio/speech", "openai.audio.speech"),
        ("/v1/audio/voices", None),
        ("/v1/batches", "openai.batches"),
        ("/brewery/batches", None),
    ],
)
def test_a_route_is_recognised_by_its_suffix(path: str, name: str | None) -> None:
    found = recognise("POST", path)
    assert (found.name if found else None) == name


def test_the_model_in_azures_path_is_the_one() -> None:
    for route in ("images/generations", "audio/speech"):
        assert read_model(RequestBody(b"{}"), f"/openai/deployments/painter/{route}") == "painter"


def test_pictures_are_estimated_by_the_table_of_their_model() -> None:
    assert images(size="1024x1024", quality="medium").output_tokens == 1056
    assert images(size="1536x1024", quality="low", partial_images=2).output_tokens == 600
    assert images().output_tokens == 6240  # the dearest, where it is left to the model
    assert images(n=3, size="1024x1024").expected == Usage(
        output_tokens=12_480, output_image_tokens=12_480, images=3
    )
    assert images(model="gpt-image-1.5", size="1024x1024", quality="low").output_tokens == 272 + 1024
    later = [images(model="gpt-image-2", quality=quality).output_tokens for quality in ("low", "high", "max")]
    assert later == [1424, 15_024, 57_024]
    assert images(output_format="gif", size="1024x1024", quality="low").output_tokens == 9 * 272


@pytest.mark.parametrize(
    "fields",
    [
        {"output_format": "svg"},
        {"svg": {"model": "gpt-5.6"}},
        {"n": 0},
        {"model": None},
        {"n": "2"},
        {"prompt": None},
    ],
)
def test_pictures_that_cannot_be_priced_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        images(**fields)


def test_speech_is_estimated_by_its_text() -> None:
    info = speech()
    assert info.reach.beside_tokens == Usage(input_characters=70)
    assert info.expected.output_tokens == 100  # five seconds
    assert info.output_tokens == 20 + 350
    assert speech(speed=0.5).output_tokens == 20 + 700
    assert speech(speed=2).output_tokens == 20 + 350
    assert speech(stream_format="sse").stream
    with pytest.raises(InvalidRequest):
        speech(speed=0.1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2000), max_size=6))
def test_a_stream_of_pictures_is_read_however_it_is_cut(cuts: list[int]) -> None:
    stream = event(type="image_edit.partial_image", b64_json="x" * 300)
    stream += event(b64_json="x" * 300, type="image_edit.completed", usage=DRAWN) * 2
    reader = fed(OpenAIImages("edits").usage_reader(stream=True, usage_was_injected=False), stream, cuts)
    assert reader.finished
    assert reader.usage == Usage(input_tokens=18, output_tokens=544, output_image_tokens=544, images=2)
    assert reader.take_delivered() == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2000), max_size=6))
def test_a_stream_of_a_transcript_is_read_however_it_is_cut(cuts: list[int]) -> None:
    stream = event(type="transcript.text.delta", delta="Hel") + event(
        type="transcript.text.delta", delta="lo"
    )
    done = event(type="transcript.text.done", text="Hello", usage=HEARD)
    protocol = OpenAITranscriptions("transcriptions")
    cut = fed(protocol.usage_reader(stream=True, usage_was_injected=False), stream, cuts)
    assert (cut.finished, cut.usage, cut.take_delivered()) == (False, None, ["Hel", "lo"])
    whole = fed(protocol.usage_reader(stream=True, usage_was_injected=False), stream + done, cuts)
    assert (whole.finished, whole.usage) == (
        True,
        Usage(input_tokens=14, input_audio_tokens=14, output_tokens=45),
    )


@pytest.mark.parametrize(
    ("answer", "usage", "delivered"),
    [
        (b'{"text": "Hi", "usage": {"type": "duration", "seconds": 1.25}}', Usage(audio_ms=1250), []),
        (b'{"text": "Hi", "duration": 2}', Usage(audio_ms=2000), []),
        (b'{"text": "Hi", "usage": {"seconds": -1}}', None, ["Hi"]),
        (b'{"text": "Hi", "usage": {"seconds": 1e300}}', None, ["Hi"]),
        (b'{"text": "Hi", "usage": {"seconds": true}}', None, ["Hi"]),
        (b"1\n00:00 --> 00:01\nHi\n", None, ["1\n00:00 --> 00:01\nHi\n"]),
    ],
)
def test_a_transcript_says_its_usage_its_length_or_its_text(
    answer: bytes, usage: Usage | None, delivered: list[str]
) -> None:
    protocol = OpenAITranscriptions("transcriptions")
    reader = fed(protocol.usage_reader(stream=False, usage_was_injected=False), answer)
    assert (reader.usage, reader.take_delivered(), reader.finished) == (usage, delivered, True)


def test_an_answer_that_breaks_off_is_not_whole() -> None:
    for protocol in (OpenAITranscriptions("translations"), OpenAIImages("variations")):
        reader = fed(protocol.usage_reader(stream=False, usage_was_injected=False), b'{"text": "Hi", "us')
        assert (reader.finished, reader.usage) == (False, None)
