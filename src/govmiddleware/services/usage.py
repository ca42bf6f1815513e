"""Usage reports: the journal, summed, and the counters of the limits beside it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from govmiddleware.core.limits import Counter, Limit, Mode
from govmiddleware.core.money import nano_usd, usd_text
from govmiddleware.core.ports import CounterBuckets, Journal
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.core.windows import ResettingWindow, Window
from govmiddleware.services import records
from govmiddleware.services.records import Record, amount_shown

DIMENSIONS = ("model", "provider", "agent", "user", "session", "api_token", "workspace")
"""What usage can be grouped by, beside `tag:NAME`."""


EXPECTED_DIMENSION = f"one of {', '.join(DIMENSIONS)} or tag:NAME"


def is_dimension(by: str) -> bool:
    """Whether usage can be grouped by it."""
    return by in DIMENSIONS or (by.startswith("tag:") and len(by) > len("tag:"))


@dataclass(slots=True)
class Sums:
    """What a group of records adds up to. Money in nano-USD."""

    requests: int = 0
    refused: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    reserved: int = 0
    debt: int = 0

    def add(self, record: Record) -> None:
        """A record of the journal. Debt is the cost past what was reserved."""
        self.refused += record.refused
        if record.kind not in ("outcome", "correction"):
            return
        self.requests += record.kind == "outcome"
        cost = _nano(record.cost_usd)
        self.cost += cost
        if record.usage is not None:
            self.input_tokens += record.usage.input_tokens
            self.cached_tokens += record.usage.cached_tokens
            self.output_tokens += record.usage.output_tokens
            self.reasoning_tokens += record.usage.reasoning_tokens
        # A correction speaks of what is past what was reserved, which its request's expired record has.
        reserved = _nano(record.reserved_usd) if record.kind == "outcome" else 0
        self.debt += max(0, cost - reserved)

    def reserve(self, record: Record) -> None:
        """The record that waits for an open reservation's end."""
        self.reserved += _nano(record.cost_usd)

    def shown(self) -> dict[str, int | str]:
        return {
            "requests": self.requests,
            "refused": self.refused,
            "input_tokens": self.input_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "cost_usd": usd_text(self.cost),
            "reserved_usd": usd_text(self.reserved),
            "debt_usd": usd_text(self.debt),
        }


@dataclass(slots=True)
class _Report:
    by: str | None
    totals: Sums = field(default_factory=Sums)
    groups: dict[str, Sums] = field(default_factory=dict)

    def sums_for(self, record: Record) -> list[Sums]:
        if record.kind == "adjustment":  # of a counter: what calls used it changes nothing about
            return []
        if self.by is None:
            return [self.totals]
        group = _group(record, self.by)
        return [self.totals] if group is None else [self.totals, self.groups.setdefault(group, Sums())]


class UsageReports:
    """Answers what was used, from the journal."""

    def __init__(self, journal: Journal, limits: Iterable[Limit]) -> None:
        self._journal = journal
        self._limits = limits

    async def report(
        self,
        *,
        workspaces: Sequence[str] | None = None,
        by: str | None = None,
        only: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> dict[str, object]:
        """The contract's *usage*.

        Args:
            workspaces: those to sum; all by default.
            by: one of DIMENSIONS, or `tag:NAME` (see `is_dimension`).
            only: just the group of this id.
            since, until: `at` of the records, the end left out.

        Raises ValueError for any other `by`, StoreUnavailable.
        """
        if by is not None and not is_dimension(by):
            raise ValueError(f"by = {by!r}: expected {EXPECTED_DIMENSION}")
        report, limits = _Report(by), []
        for workspace in workspaces if workspaces is not None else await self._journal.workspaces():
            counters = await self._read(workspace, report, since, until)
            limits += await self._limit_states(workspace, counters)
        groups = [
            {"id": name, **sums.shown()}
            for name, sums in sorted(report.groups.items(), key=lambda item: (-item[1].cost, item[0]))
            if only is None or name == only
        ]
        return {
            "since": _rfc3339(since),
            "until": _rfc3339(until),
            "by": by,
            "totals": report.totals.shown(),
            "groups": groups,
            "limits": limits,
        }

    async def limit_states(self) -> list[dict[str, object]]:
        """Where each counter of each limit stands now, in all workspaces. Raises StoreUnavailable."""
        states = []
        for workspace in await self._journal.workspaces():
            counters = await self._read(workspace, _Report(None), None, None)
            states += await self._limit_states(workspace, counters)
        return states

    async def _read(
        self, workspace: str, report: _Report, since: datetime | None, until: datetime | None
    ) -> set[str]:
        """Add up one workspace; returns the names of the counters that its records speak of."""
        since_ms, until_ms = _ms(since), _ms(until)
        counters: set[str] = set()
        async for entry in self._journal.entries(workspace):
            counters.update(hold.counter for hold in entry.holds)
            is_between = (since_ms is None or entry.at_ms >= since_ms) and (
                until_ms is None or entry.at_ms < until_ms
            )
            if is_between and workspace != DEPLOYMENT_WORKSPACE:  # whose records stand for others'
                record = records.decode(entry.record)
                for sums in report.sums_for(record):
                    sums.add(record)
        for reservation in await self._journal.open_reservations(workspace):
            counters.update(hold.counter for hold in reservation.holds)
            if reservation.record is not None and workspace != DEPLOYMENT_WORKSPACE:
                record = records.decode(reservation.record)
                for sums in report.sums_for(record):
                    sums.reserve(record)
        return counters

    async def _limit_states(self, workspace: str, counters: set[str]) -> list[dict[str, object]]:
        """Where each counter of each limit stands now."""
        now_ms = time.time_ns() // 1_000_000
        found = (await self._journal.snapshot(workspace, sorted(counters))).counters
        states: list[dict[str, object]] = []
        limits = [limit for limit in self._limits if limit.workspace in (None, workspace)]
        pinned = {_counter_of(limit, limit.value) for limit in limits if limit.value is not None}
        for limit in limits:
            prefix = _counter_of(limit, "")
            for name in sorted(counters):
                value = name.removeprefix(prefix)
                if not name.startswith(prefix) or limit.value not in (None, value):
                    continue
                if limit.is_default and name in pinned:
                    continue
                used, reserved = amounts_in_window(limit.window, found.get(name), now_ms)
                states.append(
                    {
                        "name": limit.name,
                        "value": value,
                        "used": amount_shown(limit.meter, used),
                        "reserved": amount_shown(limit.meter, reserved),
                        "hard": amount_shown(limit.meter, limit.hard),
                        "remaining": amount_shown(limit.meter, max(0, limit.hard - used - reserved)),
                        "resets_at": _resets_at(limit.window, now_ms),
                    }
                )
        return states


def _counter_of(limit: Limit, value: str) -> str:
    return Counter(limit.scope, limit.meter, limit.window, value, limit.mode is Mode.DRY_RUN).name


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


def _resets_at(window: Window, now_ms: int) -> str | None:
    if isinstance(window, ResettingWindow):
        return _rfc3339(datetime.fromtimestamp(window.bounds(now_ms)[1] / 1000, UTC))
    return None


def _group(record: Record, by: str) -> str | None:
    if by.startswith("tag:"):
        return record.tags.get(by.removeprefix("tag:"))
    if by == "model":
        return record.model_requested
    value: str | None = getattr(record, by)
    return value


def _nano(text: int | str | None) -> int:
    return nano_usd(Decimal(text or 0))


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
