"""Adjustments: what people and code do to counters, beside the calls that are reserved and settled; and the ports for
them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

import msgspec

from govmiddleware.core.limits import Counter


class Action(Enum):
    """What an adjustment does to what counters have used."""

    ADD = "add"
    RESET = "reset"  # takes back all that the current window has
    FORGET = "forget"  # resets, and the member leaves its book
    RESTORE = "restore"  # adds amounts in given buckets: what was lost, or what came before a limit


class Member(msgspec.Struct, frozen=True):
    """A user or session of a book: of a budget that counts for each.

    Attributes:
        terms: what the book keeps of it, if it is new.
        idle_ms: after how long without use it is to be forgotten; None: never.
        most: members of the book; beyond them the one not used for the longest is to be forgotten.
    """

    book: str
    name: str
    terms: str = ""
    idle_ms: int | None = None
    most: int | None = None


class Restored(msgspec.Struct, frozen=True):
    """What is added to one counter, by bucket: to each that the counter still has, or would have. The running sums
    of a sliding window are made anew.

    Attributes:
        used: of a wall clock when the window was first used, ms.
        reserved: not journaled.
    """

    used: Mapping[int, int]
    reserved: Mapping[int, int] = {}


class Adjustment(msgspec.Struct, frozen=True):
    """What people or code did to counters of a workspace.

    Attributes:
        id: of two adjustments with the same id, within minutes, the second changes nothing and is answered as the
            first: that is how one whose answer was lost is sent again.
        amounts: of each counter, to add. Concurrency has no use that could be changed.
        restored: of each counter, to restore.
        record: for the journal, with the changes; None leaves none (where nothing is counted).
        if_idle: only where the member is idle, or the one not used for the longest of too many.
        turn: only where the caller has this turn to restore what the store has lost. It needs no epoch.
    """

    id: str
    action: Action
    counters: tuple[Counter, ...]
    amounts: tuple[int, ...] = ()
    record: bytes | None = None
    member: Member | None = None
    if_idle: bool = False
    restored: tuple[Restored, ...] = ()
    turn: str = ""


class Adjusted(msgspec.Struct, frozen=True):
    """An adjustment is made, or was.

    Attributes:
        used: of each counter, before.
        changes: what was added to them.
        terms: of the member, those that are in force; empty where it was none and did not become one.
        idle: members that are to be forgotten now.
    """

    used: tuple[int, ...]
    changes: tuple[int, ...]
    terms: str
    idle: tuple[str, ...]


class NotAdjusted(Enum):
    """Nothing was changed."""

    IDLE = "idle"  # the member has to be forgotten first
    BUSY = "busy"  # it was to be forgotten if it were idle, which it is not
    LATE = "late"  # the turn to restore is over, or another's


class Look(msgspec.Struct, frozen=True):
    """A look at counters of a workspace, and at members of a book."""

    counters: tuple[Counter, ...]
    book: str = ""
    members: tuple[str, ...] = ()


class SeenMember(msgspec.Struct, frozen=True):
    """A member of a book.

    Attributes:
        unused_ms: for how long it was not used; None where the book has none of this name.
    """

    unused_ms: int | None
    terms: str


class Seen(msgspec.Struct, frozen=True):
    """What counters have used in their current windows.

    Attributes:
        used: wall clocks in seconds since the first use, None before it.
    """

    used: tuple[int | None, ...]
    reserved: tuple[int, ...]
    members: tuple[SeenMember, ...] = ()


class Adjustments(Protocol):
    """Each call is one atomic step; every one raises StoreUnavailable."""

    async def adjust(self, workspace: str, adjustment: Adjustment) -> Adjusted | NotAdjusted:
        """Change what counters have used. The first use of a member makes it one."""
        ...

    async def look(self, workspace: str, look: Look) -> Seen: ...

    async def members(self, workspace: str, book: str) -> list[str]:
        """Of a book, the one not used for the longest first."""
        ...


class RestoringTurns(Protocol):
    """Turns to restore what the store has lost of a workspace: one at a time. Every call raises StoreUnavailable."""

    async def begin(self, workspace: str, last_record_id: str) -> str | None:
        """Take the turn; None where it is another's. The journal goes on after record `last_record_id`."""
        ...

    async def whose(self, workspace: str) -> str:
        """Who has it, for people."""
        ...

    async def end(self, workspace: str, turn: str, epoch: str | None) -> bool:
        """Give it back; False where it was over. The workspace, if it is whole again, has this epoch."""
        ...


class SyncAdjustments(Protocol):
    """The same for code without an event loop."""

    def adjust(self, workspace: str, adjustment: Adjustment) -> Adjusted | NotAdjusted: ...

    def look(self, workspace: str, look: Look) -> Seen: ...

    def members(self, workspace: str, book: str) -> list[str]: ...
