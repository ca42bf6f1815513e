"""Compressed answers are metered beside the relay: the client gets them as they came, when they came."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.middleware.encoding import CODINGS, encoded
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.testing import serve_in_thread
from govmiddleware.testing.bell import Gate

HEADERS = {"authorization": f"Bearer {SECRET}", "accept-encoding": "gzip, deflate, br, zstd, x-unknown"}
ASKED = {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
USAGE = {
    "input_tokens": 11,
    "cache_read_input_tokens": 5,
    "cache_creation_input_tokens": 0,
    "output_tokens": 1,
}
EVENTS = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "claude-sonnet-4-5", "usage": USAGE}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]
STREAM = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in EVENTS]
MESSAGE = json.dumps({"model": "claude-sonnet-4-5", "usage": USAGE | {"output_tokens": 7}}).encode()

Run = Callable[..., RunningSidecar]


class Upstream:
    """Sends what it is told to under a coding, a chunk for each permit of the gate."""

    def __init__(self) -> None:
        self.gate: Gate | None = None
        self.accepted: list[bytes] = []
        self.coding, self.content_type = "", "text/event-stream"
        self.chunks: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.accepted.append(dict(scope["headers"])[b"accept-encoding"])
        await receive()
        headers = {"content-type": self.content_type, "content-encoding": self.coding}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        for chunk in self.chunks:
            if self.gate is not None:
                await self.gate.passage()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def upstream(run_sidecar: Run) -> Iterator[tuple[Upstream, RunningSidecar]]:
    app = Upstream()
    with serve_in_thread(app) as server:
        yield app, run_sidecar(upstream=server.url)


@contextmanager
def asked(sidecar: RunningSidecar, *, stream: bool) -> Iterator[Iterator[bytes]]:
    url = f"{sidecar.url}/v1/messages"
    with httpx.stream("POST", url, json=ASKED | {"stream": stream}, headers=HEADERS) as answer:
        yield answer.iter_raw()


def used(store: str) -> list[tuple[Any, ...]]:
    return [
        (record.settlement, usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        for record in until(Books(store).records)
        if (usage := record.usage) is not None
    ]


def test_each_event_of_a_compressed_stream_passes_as_it_comes_and_is_metered(
    upstream: tuple[Upstream, RunningSidecar], gov_store: str
) -> None:
    app, sidecar = upstream
    codings = [*CODINGS, "gzip, zstd"]
    for coding in codings:
        app.coding, app.chunks, app.gate = coding, encoded(STREAM, coding.split(", ")), Gate()
        app.gate.let()
        received = b""
        with asked(sidecar, stream=True) as chunks:
            for chunk in chunks:  # which would not come if it were held back: the gate is closed behind it
                received += chunk
                app.gate.let()
        assert received == b"".join(app.chunks)
    assert used(gov_store) == [("exact", 16, 5, 7)] * len(codings)
    assert set(app.accepted) == {b"gzip, deflate, br, zstd"}


def test_a_compressed_answer_passes_byte_for_byte_and_is_metered(
    upstream: tuple[Upstream, RunningSidecar], gov_store: str
) -> None:
    app, sidecar = upstream
    app.content_type = "application/json"
    for coding in CODINGS:
        app.coding, app.chunks = coding, encoded([MESSAGE], [coding])
        with asked(sidecar, stream=False) as chunks:
            assert b"".join(chunks) == b"".join(app.chunks)
    assert used(gov_store) == [("exact", 16, 5, 7)] * len(CODINGS)


def test_a_compressed_stream_that_turns_to_nonsense_is_charged_as_reserved(
    upstream: tuple[Upstream, RunningSidecar], gov_store: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, sidecar = upstream
    app.coding, app.chunks = "gzip", [*encoded(STREAM, ["gzip"])[:3], b"\xff" * 100]
    with caplog.at_level(logging.WARNING, "govmiddleware.meter"), asked(sidecar, stream=True) as chunks:
        assert b"".join(chunks) == b"".join(app.chunks)
    [record] = until(Books(gov_store).records)
    assert (record.settlement, record.cost_usd) == ("estimated", (record.bound or {})["cost_usd"])
    assert "cannot be read: Error -3 while decompressing" in caplog.text
