"""Who has the whole answer finds it in the books: settlement comes before the last of it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from govmiddleware.host import govern

ANSWER = b'{"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}'
EVENT = b'data: {"choices": [{"delta": {"content": "Hello"}}]}\n\n'
LAST_EVENT = (
    b'data: {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}\n\ndata: [DONE]\n\n'
)
SLOT = {"name": "slot", "scope": "api_token", "meter": "concurrency", "hard": 1}


@pytest.mark.parametrize(
    ("content_type", "length", "chunks", "last"),
    [
        (b"application/json", True, [ANSWER], 0),
        (b"application/json", True, [ANSWER[:9], ANSWER[9:]], 1),
        (b"application/json", False, [ANSWER[:9], ANSWER[9:]], 2),
        (b"text/event-stream", False, [EVENT, LAST_EVENT], 1),
    ],
    ids=["one piece", "two pieces of a known length", "two pieces of an unknown length", "a stream"],
)
async def test_the_slot_is_free_before_the_client_can_know_that_the_answer_is_over(
    governed, secret, content_type: bytes, length: bool, chunks: list[bytes], last: int
) -> None:
    governance = await governed(limits=[SLOT])
    open_at: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", content_type)]
        if length:
            headers.append((b"content-length", b"%d" % sum(map(len, chunks))))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        asked = b'{"model": "m", "messages": [], "stream": true, "stream_options": {"include_usage": true}}'
        return {"type": "http.request", "body": asked, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            open_at.append(len(await governance.journal.open_reservations("acme")))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {secret}".encode())],
    }
    await govern(app, governance)(scope, receive, send)
    assert open_at == [1] * last + [0] * (len(chunks) + 1 - last)


@pytest.mark.parametrize("cut", range(len(LAST_EVENT) - 4, len(LAST_EVENT) + 4))
async def test_nothing_behind_the_end_of_a_stream_is_lost(governed, secret, cut: int) -> None:
    """What strips injected usage holds back half an event, and there may be one after the last."""
    governance = await governed()
    said = LAST_EVENT + b": bye"
    sent = bytearray()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in (said[:cut], said[cut:]):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"model": "m", "messages": [], "stream": true}'}

    async def send(message: Any) -> None:
        sent.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {secret}".encode())],
    }
    await govern(app, governance)(scope, receive, send)
    assert bytes(sent) == b"data: [DONE]\n\n: bye"
