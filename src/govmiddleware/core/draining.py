"""Draining: who copies records from the store into SQL, and how that goes."""

from __future__ import annotations

import time
from typing import Protocol

import msgspec


class DrainReport(msgspec.Struct, frozen=True):
    """How far SQL is behind the store.

    Attributes:
        waiting: records of all workspaces that are not in SQL yet.
        oldest_ms: when the oldest of them was written, Unix milliseconds; None where none waits.
        error: why SQL does not take them; empty where it does.
    """

    waiting: int = 0
    oldest_ms: int | None = None
    error: str = ""

    @property
    def lag_seconds(self) -> float:
        """How long the oldest has waited until now."""
        return 0.0 if self.oldest_ms is None else max(0.0, time.time() - self.oldest_ms / 1000)

    def shown(self) -> str:
        if self.waiting == 0 and not self.error:
            return "SQL has all records"
        behind = f"{self.waiting} records wait in the store, the oldest for {self.lag_seconds:.0f} s"
        return f"{behind}: {self.error}" if self.error else behind


class DrainTurn(Protocol):
    """Of all workers on a store one drains. It is no lock: two who drain at once do the same twice. Every call raises
    StoreUnavailable."""

    async def take(self, report: DrainReport | None = None) -> bool:
        """Whether it is the caller's, who has it until it does not ask again for some seconds, or leaves it.

        Args:
            report: how draining goes, for all who ask.
        """
        ...

    async def leave(self) -> None:
        """Let another have it at once. Nothing where it is another's."""
        ...

    async def report(self) -> DrainReport | None:
        """The last one of whoever has the turn; None where nobody has."""
        ...
