"""Backfill: what calls had used of a counter before a limit made them hold it; and the ports for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from govmiddleware.core.journal import SettledHold
from govmiddleware.core.limits import Counter, Limit, Meter, Mode
from govmiddleware.core.scopes import is_deployment_wide
from govmiddleware.core.windows import Window

BACKFILL = "backfill"
"""The `outcome` of the records that it leaves in the journal, which are adjustments."""

_NOT_AMOUNTS = (Meter.CONCURRENCY, Meter.WALL_CLOCK)


class Kind(msgspec.Struct, frozen=True):
    """Counters that limits stand on: of one scope, meter and window.

    Attributes:
        workspace: the one that the limit binds; None: each.
        value: the one value that it binds; None: each.
    """

    scope: str
    meter: Meter
    window: Window
    is_shadow: bool
    workspace: str | None
    value: str | None

    @property
    def is_deployment_wide(self) -> bool:
        return is_deployment_wide(self.scope)

    @property
    def prefix(self) -> str:
        """What the names of the counters begin with; their value follows."""
        return self.counter("").name

    @property
    def name(self) -> str:
        """Tells it from all others."""
        return f"{self.workspace or '*'} {self.prefix}{'*' if self.value is None else '=' + self.value}"

    def counter(self, value: str) -> Counter:
        return Counter(self.scope, self.meter, self.window, value, self.is_shadow)


def kinds_of(limits: Iterable[Limit]) -> set[Kind]:
    """Those that limits stand on. Of concurrency nothing was used before; a wall clock runs from the first use that
    its limit saw."""
    return {
        Kind(limit.scope, limit.meter, limit.window, limit.mode is Mode.DRY_RUN, limit.workspace, limit.value)
        for limit in limits
        if limit.meter not in _NOT_AMOUNTS
    }


class Missed(msgspec.Struct, frozen=True):
    """What the history says of the counters of one kind, in the current window, up to record `drained_to`.

    Attributes:
        unheld: by value and bucket, what calls used that did not hold them.
        backfilled: of that, what was added since.
    """

    unheld: Mapping[tuple[str, int], int]
    backfilled: Sequence[SettledHold]
    drained_to: str


class MissedUse(Protocol):
    """Every call raises HistoryUnavailable."""

    async def missed(
        self,
        workspace: str,
        kind: Kind,
        *,
        now_ms: int,
        but: Sequence[str] = (),
        before_ms: int | None = None,
    ) -> Missed:
        """Of the calls of one workspace. Of a kind that counts over the whole deployment, those of all of them.

        Args:
            but: reservations to leave out.
            before_ms: only calls that were admitted before.
        """
        ...


class BackfillNotes(Protocol):
    """What workers tell one another. Every call raises StoreUnavailable."""

    async def take_turn(self) -> bool:
        """Whether it is the caller's: of all that ask, one gets it for a while."""
        ...

    async def leave_turn(self) -> None: ...

    async def read(self) -> Mapping[str, str]:
        """By the names of kinds."""
        ...

    async def write(self, kind: str, note: str) -> None: ...

    async def forget(self, kinds: Iterable[str]) -> None: ...
