"""Where one limit stands, for whoever has a link."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from tests.services.test_audit import Books

from govmiddleware.app import Governance
from govmiddleware.services.standing import Standings


async def test_a_limit_stands_where_its_counter_does(
    make_governance: Callable[..., Governance], gov_store: str
) -> None:
    kinds = {"month": {"window": "month", "hard": 9}, "minute": {"rate": "9/minute"}}
    limits = [{"name": name, "scope": "user", "meter": "requests", **kind} for name, kind in kinds.items()]
    limits.append({"name": "slots", "scope": "user", "meter": "concurrency", "hard": 9})
    limits.append({"name": "clock", "scope": "user", "meter": "wall_clock", "window": "day", "hard": 9})
    async with make_governance(limits=limits).store() as governance, AsyncExitStack() as open_calls:
        books = Books(governance, None)
        await books.spend(1)
        for _ in range(2):
            await open_calls.enter_async_context(
                governance.reservations.hold(books.call(), governance.limits)
            )
        standings = Standings(governance.adjustments, governance.limits)
        found = [await standings.find("acme", limit["name"], "ann") for limit in limits]
        assert [(each.used, each.reserved) for each in found if each] == [(1, 2), (1, 2), (0, 2), (0, 0)]
        assert await standings.find("acme", "month", "nobody")
        assert await standings.find("acme", "gone", "ann") is None
