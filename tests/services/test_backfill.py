"""A limit that comes into force in mid-window finds what was used since the window began."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis as sync_redis
from tests.services.draining import drain
from tests.services.test_audit import Books

from govmiddleware.app import Governance
from govmiddleware.services.audit import audit
from govmiddleware.testing.clock import Clock

COST = 700_000
"""Nano-USD, of a call with 300 tokens of output."""


class Deployment(Books):
    """Calls, limits that come and go, and the time between."""

    clock: Clock

    async def limit(self, name: str = "late", **fields: Any) -> None:
        fields = {"scope": "user", "meter": "cost_usd", "window": "month", "hard": 1} | fields
        await self.governance.limits.put({"name": name, **fields})

    async def look(self, seconds: float = 0) -> None:
        """Some seconds later, with all that is settled by then in SQL."""
        self.clock.advance(seconds)
        await drain(self.governance)
        await self.governance.backfill.look()

    async def look_until_done(self) -> None:
        for _ in range(8):
            await self.look(20)

    async def used(self, name: str = "late") -> dict[str, int | str]:
        """By value."""
        report = await self.governance.usage.report()
        limits: Any = report["limits"]
        return {limit["value"]: limit["used"] for limit in limits if limit["name"] == name}

    async def is_balanced(self) -> bool:
        findings = await audit(self.governance.journal)
        assert findings.ok, findings.shown()
        return findings.checked > 0


@pytest.fixture
async def late(
    make_governance: Callable[..., Governance], gov_store: str, gov_clock: Clock
) -> AsyncIterator[Deployment]:
    governance = make_governance(clock=gov_clock)
    with sync_redis.Redis.from_url(gov_store, decode_responses=True) as raw:
        async with governance.store():
            deployment = Deployment(governance, raw)
            deployment.clock = gov_clock
            yield deployment


async def test_a_limit_created_in_mid_window_finds_what_was_used_before(late: Deployment) -> None:
    await late.spend(300)
    await late.spend(300)
    await late.spend(300, user="bob")
    await late.limit()
    await late.look()
    assert await late.used() == {"ann": "0.001400000", "bob": "0.000700000"}
    await late.spend(300)
    await late.look_until_done()
    assert await late.used() == {"ann": "0.002100000", "bob": "0.000700000"}
    assert await late.is_balanced()
