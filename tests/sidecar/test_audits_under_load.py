"""The books balance at any time: an audit every second while two replicas serve all that the machine gives.

`GOV_AUDIT_SECONDS` says for how long (default: 3; the whole are 120).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from tests.sidecar.conftest import SECRET
from tests.sidecar.load import Call, run_provider, send_all
from tests.sidecar.processes import serve_processes

from govmiddleware.app import Governance
from govmiddleware.core.ids import hash_api_token
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.services.audit import Findings
from govmiddleware.settings import Settings

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SECONDS = float(os.environ.get("GOV_AUDIT_SECONDS", "3"))
CONNECTIONS = 8
"""To each replica."""
USERS = 50

MONTH = WorkspaceKeys("acme").counter("workspace:cost_usd:month:acme")


class Load:
    """Calls to each of `urls`, one after the other on each connection, while the block runs."""

    def __init__(self, urls: list[str]) -> None:
        self._runs, self._over = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(url,)) for url in urls]
        self.statuses: Counter[int] = Counter()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        assert self._runs.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, url: str) -> None:
        self.statuses += send_all(
            url,
            self._calls(),
            connections=CONNECTIONS,
            after_each=lambda sent: sent < USERS or self._runs.set(),
        )

    def _calls(self) -> Iterator[Call]:
        number = 0
        while not self._over.is_set():
            number += 1
            yield Call(user=f"user-{number % USERS}", stream=number % 2 == 0)


async def audits(redis_url: str) -> tuple[list[float], Findings, Findings]:
    """How long each audit of the load's time took, in seconds, all of them clean; what one says of a counter that was
    changed by hand, and one after it was changed back."""
    governance = Governance(Settings(redis_url=redis_url))
    took = []
    async with governance.store():
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            began = time.monotonic()
            findings = await governance.audit()
            assert findings.ok, findings.shown()
            assert findings.checked > 1
            took.append(time.monotonic() - began)
            await asyncio.sleep(max(0, 1 - took[-1]))
        with Redis.from_url(redis_url) as redis:
            [used] = [field for field in redis.hkeys(MONTH) if field.startswith(b"u") and len(field) > 1]
            redis.hincrby(MONTH, used, 1)
            changed = await governance.audit()
            redis.hincrby(MONTH, used, -1)
        return took, changed, await governance.audit()


def test_an_audit_every_second_is_clean_and_finds_a_counter_that_was_changed_by_hand(
    tmp_path: Path, gov_store: str
) -> None:
    config = tmp_path / "govmiddleware.toml"
    with run_provider(0, one_error_in=1) as provider:
        config.write_text(
            f"""
            upstream = "{provider.url}"
            redis_url = "{gov_store}"
            [[api_tokens]]
            name = "ci"
            workspace = "acme"
            sha256 = "{hash_api_token(SECRET)}"
            [[limits]]
            name = "month"
            scope = "workspace"
            meter = "cost_usd"
            window = "month"
            hard = 1000
            [[limits]]
            name = "slots"
            scope = "workspace"
            meter = "concurrency"
            hard = 1000
            [[limits]]
            name = "user-hour"
            scope = "user"
            meter = "total_tokens"
            window = "hour"
            hard = 1000000000
            """
        )
        with serve_processes(config, 2) as sidecars, Load([sidecar.url for sidecar in sidecars]) as load:
            began = time.monotonic()
            took, changed, after = asyncio.run(audits(gov_store))
            seconds = time.monotonic() - began
    sent = sum(load.statuses.values())
    print(
        f"{sent / seconds:.0f} requests/s for {seconds:.0f} s; {len(took)} audits, "
        f"{min(took):.3f} s to {max(took):.3f} s, the last {took[-1]:.3f} s"
    )
    assert load.statuses == {200: sent}
    [difference] = changed.differences
    assert (difference.limit, difference.value) == ("workspace:cost_usd", "acme")
    assert difference.counter == difference.journal + 1
    assert after.ok, after.shown()
