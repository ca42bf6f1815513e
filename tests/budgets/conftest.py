"""Budgets of both kinds on a real store: the same tests hold for the asynchronous and the synchronous ones."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from govmiddleware.app import Governance
from govmiddleware.services.audit import audit
from govmiddleware.testing.clock import Clock

PRICES = [
    {"model": "m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "cached_input_usd_per_mtok": "0.1"}
]


class Awaited:
    """A synchronous object, each method of which is run in a thread and awaited."""

    def __init__(self, inner: Any) -> None:
        self.__dict__["inner"] = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not inspect.ismethod(found):
            return found
        return lambda *given, **named: asyncio.to_thread(found, *given, **named)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.inner, name, value)


class Budgets:
    """Makes budgets of one kind, and looks at the books."""

    def __init__(self, governance: Governance, kind: str) -> None:
        self.governance = governance
        self._is_sync = kind == "sync"

    def budget(self, name: str = "research", **options: Any) -> Any:
        if self._is_sync:
            return Awaited(self.governance.sync_budget(name, **options))
        return self.governance.budget(name, **options)

    def sessions(self, name: str = "chats", **options: Any) -> Any:
        if self._is_sync:
            return Awaited(self.governance.sync_session_budgets(name, **options))
        return self.governance.session_budgets(name, **options)

    async def records(self) -> list[dict[str, Any]]:
        return [
            msgspec.json.decode(entry.record) | {"holds": [hold.amount for hold in entry.holds]}
            async for entry in self.governance.journal.entries("default")
        ]


@pytest.fixture(params=["async", "sync"])
async def budgets(
    request: pytest.FixtureRequest, make_governance: Callable[..., Governance], gov_clock: Clock
) -> AsyncIterator[Budgets]:
    """The books are audited when a test is done."""
    governance = make_governance(prices=PRICES, clock=gov_clock)
    async with governance:
        yield Budgets(governance, request.param)
        findings = await audit(governance.journal)
        assert findings.ok, findings.shown()
