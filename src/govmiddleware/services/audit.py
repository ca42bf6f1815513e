"""The audit: counter by counter, used is the sum of the journal and reserved the sum of what is open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import msgspec
from msgspec.structs import asdict

from govmiddleware.core.history import History, Sums, is_clock
from govmiddleware.core.journal import Bucket, CounterBuckets, Journal, Snapshot, StoredKeys
from govmiddleware.core.limits import is_counter_name, split_counter_name
from govmiddleware.core.windows import window_named
from govmiddleware.services.audit_log import Chain
from govmiddleware.services.books import Books, open_books

_COUNTERS_AT_ONCE = 500
"""In one look, for which the store does nothing else."""
_GONE = CounterBuckets(oldest=0, buckets={}, sums=None)


class Difference(msgspec.Struct, frozen=True):
    """A bucket of a counter that is not what the books say. Amounts in the meter's unit.

    Attributes:
        window: the counter's window and the start or number of the bucket in it.
        counter, journal: used, as the counter has it and as the journal adds up.
        reserved: what the counter has reserved, less what the open reservations hold.
    """

    workspace: str
    limit: str
    value: str
    window: str
    counter: int
    journal: int
    reserved: int


class Findings(msgspec.Struct):
    """The result of an audit.

    Attributes:
        checked: how many buckets were.
        orphans: reservations that are in a part of the store alone, and keys that no book explains.
        lost: workspaces whose counters the store has lost.
        chain: what the audit log is like, where that was verified.
    """

    checked: int = 0
    differences: list[Difference] = []
    orphans: list[str] = []
    lost: list[str] = []
    chain: Chain | None = None

    def compare(self, workspace: str, name: str, bucket: str, found: Bucket, books: Bucket) -> None:
        """Check one bucket of the counter `name` against the books."""
        self.checked += 1
        if found != books:
            scope, meter, window, value = split_counter_name(name)
            self.differences.append(
                Difference(
                    workspace=workspace,
                    limit=f"{scope}:{meter}",
                    value=value,
                    window=f"{window}:{bucket}",
                    counter=found.used,
                    journal=books.used,
                    reserved=found.reserved - books.reserved,
                )
            )

    @property
    def ok(self) -> bool:
        balanced = not (self.differences or self.orphans or self.lost)
        return balanced and (self.chain is None or self.chain.ok)

    def shown(self) -> dict[str, object]:
        """The contract's *audit*."""
        return {
            "ok": self.ok,
            "checked": self.checked,
            "differences": [asdict(difference) for difference in self.differences],
            "orphans": self.orphans,
            "lost": self.lost,
            "chain": self.chain.shown() if self.chain else None,
        }


async def audit(
    journal: Journal, history: History | None = None, only: Collection[str] | None = None
) -> Findings:
    """Check every workspace, while traffic runs. Raises StoreUnavailable and HistoryUnavailable where it could not
    check.

    Each look at counters is one atomic step that also says where the journal ended at that moment; the journal is
    then added up to just there: SQL has its beginning, the stream its end.

    Args:
        history: the journal in SQL; without it the stream has all.
        only: these workspaces.
    """
    findings, stored = Findings(), await journal.stored_keys()
    workspaces = {*await journal.workspaces(), *stored}
    if history is not None:
        workspaces.update(await history.workspaces())
    for workspace in sorted(workspaces if only is None else workspaces & {*only}):
        keys = stored.get(workspace, StoredKeys())
        await _audit_workspace(journal, history, workspace, keys, findings)
    return findings


async def _audit_workspace(
    journal: Journal, history: History | None, workspace: str, stored: StoredKeys, findings: Findings
) -> None:
    first = await journal.snapshot(workspace, [])
    if history is not None and first.epoch is None and await history.epoch(workspace) is not None:
        findings.lost.append(workspace)
    books = await open_books(journal, history, workspace, first.now_ms)
    await books.read_on(first.last_record_id)
    findings.orphans += sorted(name for name in stored.counters if not is_counter_name(name))
    unlisted = await journal.unlisted(workspace, sorted(stored.reservations))
    findings.orphans += [reservation.id for reservation in unlisted]
    findings.orphans += [reservation.id for reservation in first.reservations if reservation.record is None]
    # Counters that appear from here on are looked at next time.
    names = {name for name in stored.counters if is_counter_name(name)}
    names.update(name for name, _ in books.used)
    names.update(hold.counter for reservation in first.reservations for hold in reservation.holds)
    in_order = sorted(names)
    for begin in range(0, len(in_order), _COUNTERS_AT_ONCE):
        some = in_order[begin : begin + _COUNTERS_AT_ONCE]
        snapshot = await journal.snapshot(workspace, some)
        await books.read_on(snapshot.last_record_id)
        _compare(some, books, snapshot, findings)


def _compare(names: Sequence[str], books: Books, snapshot: Snapshot, findings: Findings) -> None:
    held: Sums = defaultdict(int)
    for reservation in snapshot.reservations:
        for hold in reservation.holds:
            held[hold.counter, hold.bucket] += hold.amount
    by_counter: dict[str, set[int]] = defaultdict(set)
    for name, bucket in books.used.keys() | held.keys():
        by_counter[name].add(bucket)
    for name in names:
        # What has left its window may have gone from the counter, or not yet.
        first = window_named(split_counter_name(name)[2]).first_bucket(snapshot.now_ms)
        counter = snapshot.counters.get(name, _GONE)
        for bucket in sorted(by_counter[name] | counter.buckets.keys()):
            if bucket < first:
                continue
            used = books.used.get((name, bucket), 0)
            if not is_clock(name):
                found = counter.buckets.get(bucket, Bucket(0, 0))
                findings.compare(books.workspace, name, str(bucket), found, Bucket(used, held[name, bucket]))
            elif used > 0:  # else it has run for no call that has ended
                found = Bucket(counter.first_use.get(bucket, 0), 0)
                findings.compare(books.workspace, name, str(bucket), found, Bucket(used, 0))
        total = counter.added_up()
        if counter.sums is not None and total is not None:
            findings.compare(books.workspace, name, "sum", counter.sums, total)
