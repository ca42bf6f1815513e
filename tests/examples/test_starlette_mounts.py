"""examples/starlette_mounts: governed below one mount, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from tests.examples.conftest import Example
from tests.sidecar.books import Books

from govmiddleware.testing import serve_in_thread


def test_below_one_mount_it_is_governed_and_nowhere_else(
    example: Callable[[str], Example], books: Books
) -> None:
    mounts = example("starlette_mounts")
    body = {"model": "house-model", "messages": [{"role": "user", "content": "Hello"}]}
    with serve_in_thread(mounts.run("app.py")["app"]) as server:
        governed, free, home = mounts.requests("app.py", server.url)
        stranger = httpx.post(f"{server.url}/models/v1/chat/completions", json=body)
    for answer in (governed, free):
        assert answer.json()["choices"][0]["message"]["content"] == "You said: Hello"
    assert "x-gov-request-id" in governed.headers
    assert "x-gov-request-id" not in free.headers
    assert (home.status_code, stranger.status_code) == (200, 401)
    [record] = books.records()
    assert (record.model_requested, record.settlement) == ("house-model", "exact")
    assert record.cost_usd == "0.000001300"  # 1 input token at $0.1 a million, 3 of output at $0.4
    assert books.audit().ok
