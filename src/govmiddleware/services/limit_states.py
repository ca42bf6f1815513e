"""Where each counter of each limit stands now."""

from __future__ import annotations

from collections.abc import Iterable

from govmiddleware.core.journal import CounterBuckets, Journal
from govmiddleware.core.limits import Counter, Limit, Mode
from govmiddleware.core.reports import Reports
from govmiddleware.core.times import rfc3339
from govmiddleware.core.windows import ResettingWindow, Window
from govmiddleware.services.records import amount_shown

_COUNTERS_AT_ONCE = 500
"""In one look, for which the store does nothing else."""


class LimitStates:
    """Looks limits up. Raises StoreUnavailable and HistoryUnavailable."""

    def __init__(self, journal: Journal, reports: Reports, limits: Iterable[Limit]) -> None:
        self._journal = journal
        self._reports = reports
        self._limits = limits

    async def read(self, workspace: str, recent: Iterable[str], now_ms: int) -> list[dict[str, object]]:
        """Of one workspace.

        Args:
            recent: counters of which SQL may not know yet.
        """
        limits = [limit for limit in self._limits if limit.workspace in (None, workspace)]
        first_buckets = {_counter_of(limit, ""): limit.window.first_bucket(now_ms) for limit in limits}
        counters = await self._reports.counters_in_use(workspace, first_buckets)
        names = sorted({*counters, *(name for name in recent if name.startswith(tuple(first_buckets)))})
        found: dict[str, CounterBuckets] = {}
        for begin in range(0, len(names), _COUNTERS_AT_ONCE):
            some = names[begin : begin + _COUNTERS_AT_ONCE]
            found |= (await self._journal.snapshot(workspace, some)).counters
        pinned = {_counter_of(limit, limit.value) for limit in limits if limit.value is not None}
        states: list[dict[str, object]] = []
        for limit in limits:
            prefix = _counter_of(limit, "")
            for name in names:
                value = name.removeprefix(prefix)
                is_named_elsewhere = limit.is_default and name in pinned
                if name.startswith(prefix) and limit.value in (None, value) and not is_named_elsewhere:
                    states.append(_state(limit, value, found.get(name), now_ms))
        return states


def amounts_in_window(window: Window, counter: CounterBuckets | None, now_ms: int) -> tuple[int, int]:
    """Used and reserved of a stored counter, in the window as it stands at `now_ms`."""
    if counter is None:
        return 0, 0
    first = window.first_bucket(now_ms)
    for bucket, at in counter.first_use.items():
        if bucket >= first:
            return max(0, now_ms - at) // 1000, 0
    buckets = [bucket for name, bucket in counter.buckets.items() if name >= first]
    return sum(bucket.used for bucket in buckets), sum(bucket.reserved for bucket in buckets)


def _state(limit: Limit, value: str, counter: CounterBuckets | None, now_ms: int) -> dict[str, object]:
    used, reserved = amounts_in_window(limit.window, counter, now_ms)
    return {
        "name": limit.name,
        "value": value,
        "used": amount_shown(limit.meter, used),
        "reserved": amount_shown(limit.meter, reserved),
        "hard": amount_shown(limit.meter, limit.hard),
        "remaining": amount_shown(limit.meter, max(0, limit.hard - used - reserved)),
        "resets_at": resets_at(limit.window, now_ms),
    }


def _counter_of(limit: Limit, value: str) -> str:
    return Counter(limit.scope, limit.meter, limit.window, value, limit.mode is Mode.DRY_RUN).name


def resets_at(window: Window, now_ms: int) -> str | None:
    """In RFC 3339; None where no moment does."""
    if isinstance(window, ResettingWindow):
        return rfc3339(window.bounds(now_ms)[1])
    return None
