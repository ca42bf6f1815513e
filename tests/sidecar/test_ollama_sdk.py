"""The official ollama client through the sidecar."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import ollama
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.testing import Script

PRICE = {"model": "llama*", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
HELLO: Any = {"model": "llama3.2:latest", "messages": [{"role": "user", "content": "Hello there"}]}
SAID = "The quick brown fox jumps over the lazy dog."
Run = Callable[..., RunningSidecar]


def client_of(sidecar: RunningSidecar) -> closing[ollama.Client]:
    return closing(ollama.Client(host=sidecar.url, headers={"authorization": f"Bearer {SECRET}"}))


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def test_answers_streams_and_embeddings_are_metered_exactly(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar(prices=[PRICE], default_max_output_tokens=500)
    with client_of(sidecar) as client:
        assert client.chat(**HELLO).message.content == SAID
        assert "".join(part.message.content or "" for part in client.chat(**HELLO, stream=True)) == SAID
        generated = list(client.generate(model="llama3.2", prompt="Hello there", stream=True))
        assert "".join(part.response for part in generated) == SAID
        assert generated[-1].eval_count == 9
        assert len(client.embed(model="llama3.2", input=["Hello there", "you"]).embeddings) == 2
        sidecar.provider.script = Script(tool="get_weather", text='{"city": "Berlin"}')
        [call] = client.chat(**HELLO).message.tool_calls or []
        assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Berlin"})
    chat, stream, generate, embed, _ = until(lambda: found if len(found := books.records()) == 5 else None)
    for record in (chat, stream, generate):
        assert (record.settlement, record.cost_usd) == ("exact", "0.000020000")  # 2 x $1 and 9 x $2 a million
    assert (stream.protocol, generate.protocol, embed.protocol) == (
        "ollama.chat",
        "ollama.generate",
        "ollama.embed",
    )
    assert embed.cost_usd == "0.000003000"
    # Nothing but a limit in the request ends what an Ollama generates.
    assert [(each.body or {})["options"]["num_predict"] for each in sidecar.provider.exchanges[:3]] == [
        500
    ] * 3


def test_a_refusal_and_a_stream_that_breaks_off_raise_in_the_client(run_sidecar: Run, books: Books) -> None:
    limit = {"name": "rate", "scope": "api_token", "meter": "requests", "rate": "1/hour"}
    sidecar = run_sidecar(prices=[PRICE], limits=[limit])
    sidecar.provider.next(Script(breaks_after=3))
    with client_of(sidecar) as client:
        with pytest.raises(ollama.ResponseError) as broken:
            list(client.chat(**HELLO, stream=True))
        with pytest.raises(ollama.ResponseError) as refused:
            client.chat(**HELLO)
    assert "upstream" in broken.value.error
    [record] = until(books.records)
    assert record.settlement == "aborted"
    assert refused.value.status_code == 429
    assert "rate" in refused.value.error


def test_a_stream_past_its_budget_ends_as_if_at_its_output_limit(run_sidecar: Run, books: Books) -> None:
    limit = {"name": "poor", "scope": "workspace", "meter": "output_tokens", "window": "month", "hard": 400}
    sidecar = run_sidecar(prices=[PRICE], limits=[limit], slice_output_tokens=64)
    sidecar.provider.script = Script(text="word " * 2000, pieces=400)
    with client_of(sidecar) as client:
        parts = list(client.chat(**HELLO, stream=True))
    assert (parts[-1].done, parts[-1].done_reason) == (True, "length")
    [record] = until(books.records)
    assert record.usage is not None
    assert 0 < record.usage.output_tokens <= 400
    assert books.audit().differences == []
