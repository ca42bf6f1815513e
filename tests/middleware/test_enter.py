"""The way in: each request has a Call of its own, whatever the server does with its state."""

from __future__ import annotations

from typing import Any

from govmiddleware.host import govern

LIMIT = {"name": "one", "scope": "api_token", "meter": "requests", "window": "day", "hard": 1}


async def test_requests_that_share_a_state_dict_are_counted_one_by_one(governed, secret) -> None:
    """Some servers give all requests of a connection the same one."""
    governance = await governed(limits=[LIMIT])
    shared: dict[str, Any] = {"from": "the lifespan"}
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["state"]["from"] == "the lifespan"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"model": "m", "messages": []}', "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    stack = govern(app, governance)
    for _ in range(2):
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {secret}".encode())],
            "state": shared,
        }
        await stack(scope, receive, send)
    assert statuses == [200, 429]
    assert shared == {"from": "the lifespan"}
