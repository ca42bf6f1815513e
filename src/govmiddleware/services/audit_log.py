"""The audit log, verified: is it as it was written, and whole?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import msgspec

from govmiddleware.core.audit_log import FIRST_MAC, Entry, Head


class Chain(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        entries: how many there are.
        first_bad: the number of the first entry that is not what was written, or is missing.
        problem: what is wrong with it, in words; None where nothing is.
    """

    entries: int
    first_bad: int | None = None
    problem: str | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None

    def shown(self) -> dict[str, object]:
        """The contract's `chain`, and more."""
        return {
            "ok": self.ok,
            "first_bad": self.first_bad,
            "entries": self.entries,
            "problem": self.problem,
        }


async def verify(entries: AsyncIterator[Entry], key: bytes, heads: Iterable[Head]) -> Chain:
    """Follow the chain from its first entry to its last.

    Args:
        entries: all of them, by number; read after `heads`, for the log grows meanwhile.
        key: that they were written with.
        heads: what was its last entry at some time; each must be in it still.
    """
    before, expected, count, misfits = FIRST_MAC, 1, 0, 0
    first: tuple[int, str] | None = None
    unseen = set(heads)
    async for entry in entries:
        count += 1
        problem = None
        if not entry.follows(before, key):
            misfits += 1
            problem = entry.sequence, "it was changed, inserted or moved"
        if entry.sequence != expected:
            is_number = isinstance(entry.sequence, int)  # SQLite keeps what it is given
            is_beyond = not is_number or entry.sequence > expected
            problem = (expected, "it is missing") if is_beyond else (entry.sequence, "it was inserted")
        here = {head for head in unseen if head.sequence == entry.sequence}
        unseen -= here
        if any(head.mac != entry.mac for head in here):
            problem = problem or (entry.sequence, "it is another one than was the last of the log once")
        first = first or problem
        before, expected = entry.mac, expected + 1 if problem is None else _after(entry, expected)
    if misfits == count > 1:
        words = (
            f"none of the {count} entries fits the key: they were written with another one, or all changed"
        )
        return Chain(count, 1, words)
    if first is None and unseen:
        head = max(unseen, key=lambda head: head.sequence)
        first = expected, f"it is missing, for the log once reached to {head}"
    return Chain(count) if first is None else Chain(count, first[0], f"entry {first[0]}: {first[1]}")


def _after(entry: Entry, expected: int) -> int:
    return entry.sequence + 1 if isinstance(entry.sequence, int) else expected + 1
