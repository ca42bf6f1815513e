"""Usage reports: what was used over any time, in slices of it, and by month for accounting."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal
from govmiddleware.core.limits import Limit
from govmiddleware.core.local_time import is_timezone
from govmiddleware.core.money import usd_text
from govmiddleware.core.reports import EXPECTED_DIMENSION, Reports, Span, Sums, is_dimension
from govmiddleware.core.slices import Unit, cut
from govmiddleware.core.times import rfc3339
from govmiddleware.services.history import all_workspaces
from govmiddleware.services.limit_states import LimitStates
from govmiddleware.services.used import Used

_ACCOUNTING_MS = 3653 * 86_400_000
"""How far the export for accounting goes back, if nobody says: ten years."""

Values = tuple[str | None, ...]


class UsageReports:
    """Answers what was used. Every call raises StoreUnavailable and HistoryUnavailable."""

    def __init__(self, journal: Journal, history: History, reports: Reports, limits: Iterable[Limit]) -> None:
        self._journal = journal
        self._history = history
        self._used = Used(journal, history, reports)
        self._limit_states = LimitStates(journal, reports, limits)

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
            since, until: when calls were admitted, the end left out.

        Raises ValueError for any other `by`.
        """
        dimensions = _checked(by)
        groups: dict[Values, Sums] = defaultdict(Sums)
        limits: list[dict[str, object]] = []
        for workspace in await self._workspaces(workspaces):
            sums, tail = await self._used.sums(workspace, dimensions, Span(_ms(since), _ms(until)))
            for (_, values), each in sums.items():
                groups[values] += each
            limits += await self._limit_states.read(workspace, tail.counters(), _now_ms())
        return {
            "since": since and rfc3339(since),
            "until": until and rfc3339(until),
            "by": by,
            **_shown_by(groups, only),
            "limits": limits,
        }

    async def limit_states(self) -> list[dict[str, object]]:
        """Where each counter of each limit stands now, in all workspaces."""
        states: list[dict[str, object]] = []
        for workspace in await self._workspaces(None):
            _, tail = await self._used.sums(workspace, (), Span(until=0))
            states += await self._limit_states.read(workspace, tail.counters(), _now_ms())
        return states

    async def timeline(
        self,
        *,
        bucket: Unit,
        timezone: str = "UTC",
        workspaces: Sequence[str] | None = None,
        by: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> dict[str, object]:
        """`{since, until, bucket, timezone, by, buckets: [{start, end, totals, groups}]}`, empty buckets too.

        Args:
            timezone: whose clock and calendar the buckets follow: a day may have 23 or 25 hours.
            since, until: cut the first and the last bucket. By default they are whole, and as many as one looks at.

        Raises ValueError for a `by` or time zone that there is not, and for too many buckets.
        """
        dimensions = _checked(by)
        slices = cut(bucket, _checked_timezone(timezone), _now_ms(), _ms(since), _ms(until))
        buckets: list[dict[Values, Sums]] = [defaultdict(Sums) for _ in slices.bounds()]
        for workspace in await self._workspaces(workspaces):
            sums, _ = await self._used.sums(workspace, dimensions, slices.span())
            for (part, values), each in sums.items():
                buckets[slices.number_of(part)][values] += each
        return {
            "since": _time(slices.since),
            "until": _time(slices.until),
            "bucket": bucket,
            "timezone": timezone,
            "by": by,
            "buckets": [
                {"start": _time(start), "end": _time(end), **_shown_by(groups)}
                for (start, end), groups in zip(slices.bounds(), buckets, strict=True)
            ],
        }

    async def by_month(
        self, by: Sequence[str], *, timezone: str, since: datetime | None, until: datetime | None
    ) -> list[tuple[str, Values, Sums]]:
        """For accounting: each month, as `2026-01`, with the values of `by` (see `Reports.sums`) that something was
        used of, in order. By default of the last ten years.

        Raises ValueError as `timeline`.
        """
        now = _now_ms()
        first = now - _ACCOUNTING_MS if since is None else _ms(since)
        slices = cut(Unit.MONTH, _checked_timezone(timezone), now, first, _ms(until))
        found: dict[tuple[int, Values], Sums] = defaultdict(Sums)
        for workspace in await self._workspaces(None):
            sums, _ = await self._used.sums(workspace, by, slices.span())
            for (part, values), each in sums.items():
                found[slices.number_of(part), values] += each
        zone = ZoneInfo(timezone)
        months = [
            datetime.fromtimestamp(start / 1000, zone).strftime("%Y-%m") for start, _ in slices.bounds()
        ]
        ordered = sorted(found.items(), key=lambda item: (item[0][0], [value or "" for value in item[0][1]]))
        return [(months[number], values, each) for (number, values), each in ordered]

    async def _workspaces(self, asked: Sequence[str] | None) -> Sequence[str]:
        if asked is not None:
            return asked
        return await all_workspaces(self._history, self._journal)


def _checked(by: str | None) -> tuple[str, ...]:
    if by is None:
        return ()
    if not is_dimension(by):
        raise ValueError(f"by = {by!r}: expected {EXPECTED_DIMENSION}")
    return (by,)


def _checked_timezone(name: str) -> str:
    if not is_timezone(name):
        raise ValueError(
            f"timezone = {name!r}: expected the name of an IANA time zone, such as Europe/Berlin, or UTC"
        )
    return name


def _shown_by(groups: Mapping[Values, Sums], only: str | None = None) -> dict[str, object]:
    """`totals` and `groups`; those that have no value of the dimension are in the totals alone."""
    totals = Sums()
    for each in groups.values():
        totals += each
    named = [(values[0], each) for values, each in groups.items() if values and values[0] is not None]
    return {
        "totals": _shown(totals),
        "groups": [
            {"id": name, **_shown(each)}
            for name, each in sorted(named, key=lambda item: (-item[1].cost, item[0]))
            if only is None or name == only
        ],
    }


def _shown(sums: Sums) -> dict[str, int | str]:
    return {
        "requests": sums.requests,
        "refused": sums.refused,
        "input_tokens": sums.input_tokens,
        "cached_tokens": sums.cached_tokens,
        "output_tokens": sums.output_tokens,
        "reasoning_tokens": sums.reasoning_tokens,
        "total_tokens": sums.input_tokens + sums.output_tokens,
        "cost_usd": usd_text(sums.cost),
        "reserved_usd": usd_text(sums.reserved),
        "debt_usd": usd_text(sums.debt),
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _time(ms: int) -> str:
    return rfc3339(datetime.fromtimestamp(ms / 1000, UTC))
