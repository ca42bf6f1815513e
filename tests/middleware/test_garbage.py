"""What a request leaves in memory goes with it, and does not wait for the collector, which holds up all others."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from govmiddleware.core.call import Call

LIMITS = [
    {"name": "slots", "scope": "user", "meter": "concurrency", "hard": 9},
    {"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 9},
]


@pytest.fixture
def garbage() -> Iterator[Callable[[], list[object]]]:
    """What of ours only the collector finds."""

    def ours() -> list[object]:
        gc.collect()
        # Of an instance it is its class' module, of a function its own.
        return [
            each for each in gc.garbage if str(getattr(each, "__module__", "")).startswith("govmiddleware")
        ]

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield ours
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_leaves_no_garbage_for_the_collector(
    governed: Callable[..., Awaitable[Any]],
    inside: Any,
    secret: str,
    stream: bool,
    garbage: Callable[[], list[object]],
) -> None:
    governance = await governed(limits=LIMITS, slice_output_tokens=16)
    app = governance.stack(inside)
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def call() -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "query_string": b"",
            "headers": [(b"authorization", b"Bearer " + secret.encode())],
        }
        messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else await asyncio.Event().wait()  # type: ignore[return-value]

        await app(scope, receive, send)
        inside.calls.clear()

    await call()
    garbage()
    gc.garbage.clear()
    for _ in range(3):
        await call()
    assert [each["status"] for each in sent if "status" in each] == [200] * 4
    left = garbage()
    assert not left, f"{sum(isinstance(each, Call) for each in left)} calls of 3"
