"""The port for the history: the journal's records in SQL, where they are kept for good."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from govmiddleware.core.ports import JournalEntry


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

    async def sums(
        self, workspace: str, first_buckets: Mapping[str, int]
    ) -> tuple[dict[tuple[str, int], int], str]:
        """What the records up to `drained_to`, which is returned too, add up to: by counter and bucket.

        Args:
            first_buckets: the oldest bucket to look at, by the name of the window. Counters of other windows are
                left out.
        """
        ...

    async def epoch(self, workspace: str) -> str | None:
        """What names the life of the workspace's counters; None where the history does not know it."""
        ...

    async def begin_epoch(self, workspace: str, epoch: str) -> str:
        """Know the workspace from now on; returns the epoch in force, which is the one that was first."""
        ...
