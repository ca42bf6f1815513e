"""OpenAI's pictures and sounds: the official SDK through the sidecar."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import openai
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import RunningSidecar

from govmiddleware.testing import Script
from govmiddleware.testing.openai_media_answers import PIXEL, SILENCE

Run = Callable[..., RunningSidecar]
DRAWN = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens": 1100,
    "output_tokens_details": {"image_tokens": 1056, "text_tokens": 44},
    "total_tokens": 1150,
}
HEAD = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 8_000, 16_000, 2, 16)
SOUND = ("minute.wav", HEAD + bytes(960_012))
"""A minute of 16 bits at 8 kHz, and what stands before it."""


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def test_pictures_are_metered_by_the_usage_that_they_come_with(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar()
    sidecar.provider.next(Script(usage=DRAWN), times=2)
    with sidecar.client() as client:
        made = client.images.generate(model="gpt-image-1.5", prompt="A cat", n=2, user="ann")
        assert made.data is not None
        assert len(made.data) == 2
        events: Any = client.images.generate(model="gpt-image-1.5", prompt="A cat", stream=True)
        assert [event.type for event in events] == [
            "image_generation.partial_image",
            "image_generation.completed",
        ]
        client.images.generate(model="gpt-image-1", prompt="A cat", size="1024x1024", quality="medium", n=2)
        with pytest.raises(openai.BadRequestError, match="no price"):
            client.images.generate(model="whisper-1", prompt="A cat")
    *metered, unsaid = books.records()
    for record, images in zip(metered, (2, 1), strict=True):
        assert (record.protocol, record.settlement) == ("openai.images.generations", "exact")
        assert record.usage is not None
        assert record.usage.input_image_tokens == 40
        assert (record.usage.output_image_tokens, record.usage.images) == (1056, images)
        # 10 x $5 + 40 x $8 + 44 x $10 + 1056 x $32, for a million each
        assert record.cost_usd == "0.034602000"
    assert unsaid.usage is not None
    assert (unsaid.settlement, unsaid.usage.output_image_tokens) == ("estimated", 2 * 1056)
    assert unsaid.cost_usd == f"{(unsaid.usage.input_tokens * 5 + 2 * 1056 * 40) / 1_000_000:.9f}"


def test_a_picture_to_edit_arrives_as_it_was_and_what_is_made_is_charged_by_the_picture(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar(prices=[{"model": "painter", "image_usd": 0.04}])
    sidecar.provider.next(Script())
    sidecar.provider.next(Script(usage=DRAWN))
    with sidecar.client() as client:
        client.images.edit(model="painter", prompt="A hat", image=[PIXEL, PIXEL], n=3)
        client.images.generate(model="painter", prompt="A cat")
    edited, generated = sidecar.provider.exchanges
    assert edited.raw_body.count(PIXEL) == 2
    assert edited.header(b"content-length") == str(len(edited.raw_body)).encode()
    assert generated.body == {"model": "painter", "prompt": "A cat"}
    three, single = books.records()
    assert (three.protocol, three.settlement) == ("openai.images.edits", "exact")
    assert three.usage is not None
    assert three.bound is not None
    assert three.usage.images == 3
    assert three.cost_usd == three.bound["cost_usd"] == "0.120000000"
    assert (single.settlement, single.cost_usd) == ("exact", "0.040000000")


def test_a_transcript_is_metered_in_tokens_in_seconds_or_by_the_length_of_its_sound(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar()
    in_tokens = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
        "output_tokens": 9,
        "total_tokens": 23,
    }
    sidecar.provider.next(Script(usage=in_tokens), times=2)
    sidecar.provider.next(Script(usage={"type": "duration", "seconds": 90}))
    with sidecar.client() as client:
        heard = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND)
        assert heard.text == Script().text
        stream = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, stream=True)
        assert [event.type for event in stream][-1] == "transcript.text.done"
        with pytest.warns(DeprecationWarning, match="deprecated"):
            client.audio.translations.create(model="whisper-1", file=SOUND)
        text: Any = client.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format="text")
    assert text == Script().text
    assert all(SOUND[1] in exchange.raw_body for exchange in sidecar.provider.exchanges)
    first, second, third, unsaid = books.records()
    for record in (first, second):
        assert record.usage is not None
        assert (record.usage.input_audio_tokens, record.usage.output_tokens) == (10, 9)
        assert (record.settlement, record.cost_usd) == ("exact", "0.000160000")  # 4 x 2.5, 10 x 6, 9 x 10
    assert third.usage is not None
    assert (third.usage.audio_ms, third.settlement, third.cost_usd) == (90_000, "exact", "0.009000000")
    assert third.protocol == "openai.audio.translations"
    assert unsaid.usage is not None
    assert unsaid.bound is not None
    assert (unsaid.usage.audio_ms, unsaid.settlement) == (60_003, "estimated")
    assert unsaid.cost_usd == unsaid.bound["cost_usd"] == "0.006000300"


def test_speech_is_metered_by_its_characters_or_by_its_events(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar()
    said: Any = {"voice": "alloy", "input": "How now, brown cow?"}
    with sidecar.client() as client:
        sound = client.audio.speech.create(model="tts-1", **said).read()
        assert sound == SILENCE
        client.audio.speech.create(model="gpt-4o-mini-tts", **said)
        sidecar.provider.next(Script(usage={"input_tokens": 7, "output_tokens": 30, "total_tokens": 37}))
        events = client.audio.speech.create(model="gpt-4o-mini-tts", stream_format="sse", **said).read()
        assert b"speech.audio.done" in events
    by_character, unsaid, by_tokens = books.records()
    assert by_character.cost_usd == "0.000285000"  # 19 x $15 for a million
    assert by_character.usage is not None
    assert by_character.bound is not None
    assert (
        by_character.usage.total_tokens == by_character.bound["output_tokens"] == 0
    )  # it is not billed in tokens
    assert (unsaid.settlement, by_tokens.settlement) == ("estimated", "exact")
    assert unsaid.usage is not None
    assert unsaid.usage.output_audio_tokens == 28  # 19 characters are 1.4 seconds
    assert by_tokens.cost_usd == "0.000364200"  # 7 x 0.6, 30 x 12


def test_a_large_upload_passes_whole_and_one_that_is_larger_or_encoded_is_refused(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar(max_body_bytes=3_000_000)
    file = HEAD + bytes(range(256)) * 10_000
    with sidecar.client(max_retries=0) as client:
        client.audio.transcriptions.create(model="whisper-1", file=("long.wav", file))
        with pytest.raises(openai.APIStatusError) as refused:
            client.audio.transcriptions.create(model="whisper-1", file=("longer.wav", file * 2))
        assert refused.value.status_code == 413
        with pytest.raises(openai.APIStatusError) as refused:
            client.audio.transcriptions.create(
                model="whisper-1", file=SOUND, extra_headers={"content-encoding": "gzip"}
            )
        assert refused.value.status_code == 415
    [exchange] = sidecar.provider.exchanges
    assert file in exchange.raw_body
    assert exchange.header(b"content-length") == str(len(exchange.raw_body)).encode()
    assert len(books.records()) == 1
