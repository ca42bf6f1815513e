"""Without its store the stack lets nothing pass, and says so at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.host import govern
from govmiddleware.ledger.embedded import EmbeddedStore

pytestmark = pytest.mark.impatient

SOON = 0.5
"""Seconds of the event loop's time."""

_TICK = 0.025


@asynccontextmanager
async def soon() -> AsyncIterator[None]:
    """Fails where the block takes longer than is promised. Time is counted in ticks, as the patience with the store
    is: a loop that a busy machine runs late is not the store's doing."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(_TICK)
            ticks += 1

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
    assert ticks * _TICK < SOON


async def refused(post: Any, app: Any, **options: Any) -> None:
    async with soon():
        answer = await post(app, **options)
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "store_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "sock" not in answer.text, "an address is nobody's business"


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A store of our own, and how to freeze it. It goes on at the end."""
    with EmbeddedStore(tmp_path) as url:
        with Redis.from_url(url) as redis:
            pid = int(redis.info("server")["process_id"])
        try:
            yield url, lambda: os.kill(pid, signal.SIGSTOP)
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("secret", ["open sesame", ids.new_api_token()], ids=["configured", "stored"])
async def test_a_store_that_is_not_there_is_a_503_for_every_token(
    governed, inside, post, tmp_path, secret
) -> None:
    governance = await governed(redis_url=f"unix://{tmp_path}/closed.sock")
    await refused(post, governance.stack(inside), secret=secret)
    assert inside.reached == 0
    await governance.upkeep.stop(grace_seconds=0)


async def test_a_store_that_hangs_is_a_503_as_soon(governed, inside, post, frozen) -> None:
    url, freeze = frozen
    slots = {"name": "slots", "scope": "api_token", "meter": "concurrency", "hard": 100}
    governance = await governed(redis_url=url, limits=[slots])
    app = governance.stack(inside)
    assert (await post(app)).status_code == 200
    freeze()
    await refused(post, app)
    await asyncio.gather(*(refused(post, app) for _ in range(20)))
    assert inside.reached == 1
    await governance.upkeep.stop(grace_seconds=0)


async def test_a_store_that_hangs_at_the_end_of_a_call_does_not_keep_the_answer(
    governed, inside, post, frozen
) -> None:
    url, freeze = frozen
    governance = await governed(redis_url=url)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        freeze()
        await inside(scope, receive, send)

    async with soon():
        answer = await post(governance.stack(app))
    assert answer.status_code == 200
    await governance.upkeep.stop(grace_seconds=0)


async def test_what_can_be_no_token_is_a_401_while_the_store_is_down_and_what_may_be_one_a_503(
    governed, inside, post, tmp_path
) -> None:
    governance = await governed(redis_url=f"unix://{tmp_path}/closed.sock")
    mistyped = ids.new_api_token()[:-1]
    assert (await post(governance.stack(inside), secret=mistyped)).status_code == 401
    assert (await post(governance.stack(inside), secret="any-string-may-be-one")).status_code == 503


async def test_readiness_says_so(governed, tmp_path) -> None:
    governance = await governed(redis_url=f"unix://{tmp_path}/closed.sock")
    [problem] = await governance.readiness()
    assert "store" in problem


async def test_an_embedded_store_that_does_not_come_up_is_a_503_too(
    inside, post, tmp_path, monkeypatch
) -> None:
    from govmiddleware.errors import StoreUnavailable
    from govmiddleware.settings import Settings

    def fail(self: object) -> str:
        raise StoreUnavailable("the disk of /var/secret is full")

    monkeypatch.setattr(EmbeddedStore, "open", fail)
    app = govern(inside, Governance(Settings(data_dir=tmp_path)))
    answer = await post(app)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert "/var/secret" not in answer.text
    assert (await post(app, path="/other")).status_code == 404, "what is not governed needs no store"
    assert [exchange.path for exchange in inside.provider.exchanges] == ["/other"]
