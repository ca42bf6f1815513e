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
BILLED_BY_PICTURE = [{"model": "painter", "image_usd": 0.04}]


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def test_pictures_are_metered_by_the_usage_that_they_come_with(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar()
    sidecar.provider.next(Script(usage=DRAWN), times=2)
    with sidecar.client() as client:
        made = client.images.generate(
            model="gpt-image-1.5", prompt="A cat", n=2, size="1024x1024", user="ann"
        )
        assert made.data is not None
        assert len(made.data) == 2
        events: Any = client.images.generate(model="gpt-image-1.5", prompt="A cat", stream=True)
        assert [event.type for event in events] == [
            "image_generation.partial_image",
            "image_generation.completed",
        ]
    for record, images in zip(books.records(), (2, 1), strict=True):
        assert (record.protocol, record.settlement) == ("openai.images.generations", "exact")
        assert record.usage is not None
        assert record.usage.input_image_tokens == 40
        assert (record.usage.output_image_tokens, record.usage.images) == (1056, images)
        # 10 x $5 + 40 x $8 + 44 x $10 + 1056 x $32, for a million each
        assert record.cost_usd == "0.034602000"


def test_a_picture_to_edit_arrives_as_it_was(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar(prices=BILLED_BY_PICTURE)
    with sidecar.client() as client:
        client.images.edit(model="painter", prompt="A hat", image=[PIXEL, PIXEL], n=3)
    [exchange] = sidecar.provider.exchanges
    assert exchange.raw_body.count(PIXEL) == 2
    assert exchange.header(b"content-length") == str(len(exchange.raw_body)).encode()
    [record] = books.records()
    assert (record.protocol, record.settlement) == ("openai.images.edits", "exact")
    assert record.usage is not None
    assert (record.usage.images, record.cost_usd) == (3, "0.120000000")
    assert record.bound is not None
    assert record.bound["cost_usd"] == "0.120000000"


def test_what_is_drawn_by_a_model_that_no_price_fits_is_refused(run_sidecar: Run) -> None:
    with run_sidecar().client() as client, pytest.raises(openai.BadRequestError, match="no price"):
        client.images.generate(model="whisper-1", prompt="A cat")


def test_a_transcript_is_metered_in_tokens_or_in_seconds(run_sidecar: Run, books: Books) -> None:
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
    first, second, third = books.records()
    for record in (first, second):
        assert record.usage is not None
        assert (record.usage.input_audio_tokens, record.usage.output_tokens) == (10, 9)
        assert (record.settlement, record.cost_usd) == ("exact", "0.000160000")  # 4 x 2.5, 10 x 6, 9 x 10
    assert third.usage is not None
    assert (third.usage.audio_ms, third.settlement, third.cost_usd) == (90_000, "exact", "0.009000000")
    assert third.protocol == "openai.audio.translations"


def test_a_transcript_without_usage_is_charged_the_length_of_its_sound(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar()
    with sidecar.client() as client:
        text: Any = client.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format="text")
    assert text == Script().text
    [exchange], [record] = sidecar.provider.exchanges, books.records()
    assert SOUND[1] in exchange.raw_body
    assert record.usage is not None
    assert record.bound is not None
    assert (record.usage.audio_ms, record.settlement) == (60_003, "estimated")
    assert record.cost_usd == record.bound["cost_usd"] == "0.006000300"


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


def test_pictures_that_do_not_say_what_they_took_are_charged_by_the_table(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar(prices=BILLED_BY_PICTURE)
    sidecar.provider.next(Script(), times=1)
    sidecar.provider.next(Script(usage=DRAWN))
    with sidecar.client() as client:
        client.images.generate(model="gpt-image-1", prompt="A cat", size="1024x1024", quality="medium", n=2)
        client.images.generate(model="painter", prompt="A cat")
    by_token, by_picture = books.records()
    assert by_token.usage is not None
    assert (by_token.settlement, by_token.usage.output_image_tokens) == ("estimated", 2 * 1056)
    assert by_token.cost_usd == f"{(by_token.usage.input_tokens * 5 + 2 * 1056 * 40) / 1_000_000:.9f}"
    assert (by_picture.settlement, by_picture.cost_usd) == ("exact", "0.040000000")


def test_a_large_upload_passes_whole_and_a_larger_one_is_refused(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar(max_body_bytes=3_000_000)
    file = HEAD + bytes(range(256)) * 10_000
    with sidecar.client() as client:
        client.audio.transcriptions.create(model="whisper-1", file=("long.wav", file))
        with pytest.raises(openai.APIStatusError) as refused:
            client.audio.transcriptions.create(model="whisper-1", file=("longer.wav", file * 2))
    assert refused.value.status_code == 413
    [exchange] = sidecar.provider.exchanges
    assert file in exchange.raw_body
    assert exchange.header(b"content-length") == str(len(exchange.raw_body)).encode()
    assert len(books.records()) == 1


def test_a_form_in_an_encoding_is_refused(run_sidecar: Run) -> None:
    with run_sidecar().client(max_retries=0) as client, pytest.raises(openai.APIStatusError) as refused:
        client.audio.transcriptions.create(
            model="whisper-1", file=SOUND, extra_headers={"content-encoding": "gzip"}
        )
    assert refused.value.status_code == 415
