"""Streams: byte for byte what the upstream says, and settled for what was delivered when cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.core.tokens import count_tokens
from govmiddleware.services.records import Record
from govmiddleware.testing import Script, serve_in_thread
from govmiddleware.testing.bell import Gate

Run = Callable[..., RunningSidecar]
TEXT = " ".join(f"word{n}" for n in range(20))
BUDGET = {"name": "budget", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 5}
HEADERS = {"authorization": f"Bearer {SECRET}"}


def _body(**more: object) -> dict[str, object]:
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 99,
    } | more


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def _only_record(books: Books) -> Record:
    [record] = until(books.records)
    return record


# What the client sees -----------------------------------------------------------------------------


class RawOpenAI:
    """Says what OpenAI's servers say, to the byte, cut into pieces of a given size."""

    def __init__(self, piece: int) -> None:
        self.piece = piece
        self.asked: list[dict[str, object]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = json.loads((await receive())["body"])
        self.asked.append(body)
        said = stream_bytes(usage=bool(body.get("stream_options", {}).get("include_usage")))
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(said), self.piece):
            chunk = said[start : start + self.piece]
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def stream_bytes(*, usage: bool) -> bytes:
    """As api.openai.com streams, without and with `include_usage`."""
    head = '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1744000000,"model":"gpt-4o-mini-2024-07-18"'
    tail = ',"usage":null' if usage else ""
    texts = ["", "A ", 'quoted \\",\\"usage\\":null,\\" trap ', "naïve 🙂 "]
    events = [
        f'{head},"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]{tail}}}'
        for text in texts
    ]
    events.append(f'{head},"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}]{tail}}}')
    if usage:
        events.append(
            f'{head},"choices":[],"usage":{{"prompt_tokens":8,"completion_tokens":11,"total_tokens":19,'
            '"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}}'
        )
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


@pytest.fixture(params=[1, 7, 100, 10_000])
def raw_upstream(request: pytest.FixtureRequest) -> Iterator[tuple[RawOpenAI, str]]:
    upstream = RawOpenAI(request.param)
    with serve_in_thread(upstream) as server:
        yield upstream, server.url


def _stream(sidecar: RunningSidecar, body: dict[str, object]) -> bytes:
    return httpx.post(f"{sidecar.url}/v1/chat/completions", json=body, headers=HEADERS).content


def test_without_include_usage_the_client_sees_what_it_would_have_seen_without_us(
    run_sidecar: Run, raw_upstream: tuple[RawOpenAI, str], books: Books
) -> None:
    upstream, url = raw_upstream
    sidecar = run_sidecar(upstream=url)
    assert _stream(sidecar, _body(stream=True)) == stream_bytes(usage=False)
    assert upstream.asked[0]["stream_options"] == {"include_usage": True}
    record = _only_record(books)
    assert (record.settlement, record.model_served) == ("exact", "gpt-4o-mini-2024-07-18")
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (8, 11)
    assert (record.usage.cached_tokens, record.usage.reasoning_tokens) == (3, 2)


def test_with_include_usage_the_client_sees_what_the_upstream_sent(
    run_sidecar: Run, raw_upstream: tuple[RawOpenAI, str], books: Books
) -> None:
    _, url = raw_upstream
    sidecar = run_sidecar(upstream=url)
    assert _stream(sidecar, _body(stream=True, stream_options={"include_usage": True})) == stream_bytes(
        usage=True
    )
    assert _only_record(books).settlement == "exact"


# Who leaves early ---------------------------------------------------------------------------------


def test_a_client_that_leaves_a_stream_cancels_upstream_and_pays_for_what_was_delivered(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar(limits=[BUDGET])
    gate = Gate()
    sidecar.provider.script = Script(text=TEXT, pieces=20, gate=gate)
    gate.let(3)  # the role, and two pieces of twenty
    with httpx.stream(
        "POST", f"{sidecar.url}/v1/chat/completions", json=_body(stream=True), headers=HEADERS
    ) as answer:
        seen = ""
        for line in answer.iter_lines():
            seen += line
            if "word1" in seen:
                break
    [exchange] = sidecar.provider.exchanges

    # No further chunk is let through: the upstream sees it all the same.
    until(lambda: exchange.disconnected_at is not None)
    assert exchange.chunks_sent == 3
    record = _only_record(books)
    assert (record.settlement, record.outcome) == ("aborted", "aborted")
    assert record.usage is not None
    assert record.usage.input_tokens == (record.estimate or {})["input_tokens"]
    assert record.usage.output_tokens == count_tokens(["word0 word1"])
    assert books.open_reservations() == 0
    assert books.audit().ok


def test_hanging_up_on_an_unstreamed_call_is_charged_as_reserved(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar(limits=[BUDGET])
    sidecar.provider.script = Script(never_answers=True)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{sidecar.url}/v1/chat/completions", json=_body(), headers=HEADERS, timeout=0.5)
    record = _only_record(books)
    assert record.settlement == "aborted"
    assert record.usage is not None
    assert record.bound is not None
    assert record.usage.output_tokens == record.bound["output_tokens"] == 99
    assert record.cost_usd == record.bound["cost_usd"]
    until(lambda: sidecar.provider.exchanges[0].disconnected_at)
    assert books.open_reservations() == 0


def test_an_upstream_that_breaks_off_a_stream_is_settled_for_what_came(
    run_sidecar: Run, books: Books
) -> None:
    sidecar = run_sidecar()
    sidecar.provider.script = Script(text=TEXT, pieces=20, breaks_after=4)
    content = _stream(sidecar, _body(stream=True))
    assert b'"error"' in content
    record = _only_record(books)
    assert record.settlement == "aborted"
    assert record.usage is not None
    assert record.usage.output_tokens == count_tokens(["word0 word1 word2"])


def test_an_upstream_that_is_not_there_costs_nothing(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar(upstream="http://127.0.0.1:9", limits=[BUDGET])
    answer = httpx.post(f"{sidecar.url}/v1/chat/completions", json=_body(), headers=HEADERS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
    record = _only_record(books)
    assert (record.cost_usd, record.outcome, record.status) == ("0.000000000", "upstream_error", 502)


def test_an_upstream_that_is_too_slow_is_charged_as_reserved(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar(first_byte_timeout=0.3, limits=[BUDGET])
    sidecar.provider.script = Script(never_answers=True)
    answer = httpx.post(f"{sidecar.url}/v1/chat/completions", json=_body(), headers=HEADERS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    record = _only_record(books)
    assert record.cost_usd == (record.bound or {})["cost_usd"]
