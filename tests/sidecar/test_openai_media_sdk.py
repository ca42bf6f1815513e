"""OpenAI's pictures and sounds: the official SDK through the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import RunningSidecar

from govmiddleware.testing import Script
from govmiddleware.testing.openai_media_answers import PIXEL

Run = Callable[..., RunningSidecar]
DRAWN = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens": 1100,
    "output_tokens_details": {"image_tokens": 1056, "text_tokens": 44},
    "total_tokens": 1150,
}
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
