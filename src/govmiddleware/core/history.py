"""The port for the history: the journal's records in SQL, where they are kept for good."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from typing import Protocol

from govmiddleware.core.journal import JournalEntry, SettledHold
from govmiddleware.core.limits import Meter, split_counter_name

Sums = dict[tuple[str, int], int]
"""What records come to, by counter and bucket."""


def count(sums: Sums, hold: SettledHold) -> None:
    """Amounts add up. A wall clock has none: its holds say when a window was first used, and those of a reset, as
    negative numbers, when that was, so that the latest time holds."""
    key = hold.counter, hold.bucket
    before = sums.get(key, 0)
    sums[key] = latest(before, hold.amount) if is_clock(hold.counter) else before + hold.amount


def latest(*times: int) -> int:
    """Of first uses and, negative, of resets. A reset comes after what happened in the same millisecond."""
    return max(times, key=lambda time: (abs(time), time < 0))


@lru_cache(4096)
def is_clock(counter: str) -> bool:
    return split_counter_name(counter)[1] == Meter.WALL_CLOCK


class History(Protocol):
    """The journal in SQL. Every call raises HistoryUnavailable.

    A workspace's records are in it up to one of them, `drained_to`; the store's stream has those after it.
    """

    async def ping(self) -> None:
        """Whether it takes writes now."""
        ...

    async def append(self, workspace: str, entries: Sequence[JournalEntry]) -> int:
        """Add records in one transaction, and count as drained up to the last of them. Those that it has already
        are left out, so that whoever does not know whether a batch was taken can send it again.

        Returns how many were new.
        """
        ...

    async def drained_to(self, workspace: str) -> str:
        """The id of the last record; empty where there is none."""
        ...

    async def workspaces(self) -> list[str]:
        """All that it ever heard of."""
        ...

    def entries(self, workspace: str, *, after: str = "", until: str = "") -> AsyncIterator[JournalEntry]:
        """In order: after record `after`, up to and with record `until`."""
        ...

    async def counters(self, workspace: str) -> list[str]:
        """The names of all counters that its records speak of."""
        ...

    async def sums(self, workspace: str, since_ms: int) -> tuple[Sums, str]:
        """What the records up to `drained_to`, which is returned too, come to (`count`), in the windows that count
        at `since_ms` and after it."""
        ...

    async def outcomes(self, workspace: str, reservation_ids: Sequence[str]) -> dict[str, JournalEntry]:
        """The outcomes that it has of these reservations."""
        ...

    async def sent_again(self, workspace: str, entries: Sequence[JournalEntry]) -> set[str]:
        """Of entries of the stream, the ids of those that it has under another id: a store that had lost them got
        them again."""
        ...

    async def epoch(self, workspace: str) -> str | None:
        """What names the life of the workspace's counters; None where the history does not know it."""
        ...

    async def begin_epoch(self, workspace: str, epoch: str) -> str:
        """Know the workspace from now on; returns the epoch in force, which is the one that was first."""
        ...
