"""Draining: who copies records from the store into SQL, and how that goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DrainReport:
    """How far SQL is behind the store.

    Attributes:
        waiting: records of all workspaces that are not in SQL yet.
        oldest_ms: when the oldest of them was written, Unix milliseconds; None where none waits.
        error: why SQL does not take them; empty where it does.
    """

    waiting: int = 0
    oldest_ms: int | None = None
    error: str = ""


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
