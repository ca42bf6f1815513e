"""The audit: counter by counter, used is the sum of the journal and reserved the sum of what is open."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field

from govmiddleware.core.limits import split_counter_name
from govmiddleware.core.ports import Bucket, CounterBuckets, Journal, Snapshot
from govmiddleware.core.windows import window_named
from govmiddleware.services.audit_log import Chain

Sums = dict[tuple[str, int], int]
"""Amounts by counter and bucket."""


@dataclass(frozen=True, slots=True)
class Difference:
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


@dataclass(slots=True)
class Findings:
    """The result of an audit. `checked` counts buckets; `chain` is what the audit log is like, where that was
    verified."""

    checked: int = 0
    differences: list[Difference] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
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
        return not self.differences and not self.orphans and (self.chain is None or self.chain.ok)

    def shown(self) -> dict[str, object]:
        """The contract's *audit*."""
        return {
            "ok": self.ok,
            "checked": self.checked,
            "differences": [asdict(difference) for difference in self.differences],
            "orphans": self.orphans,
            "chain": self.chain.shown() if self.chain else None,
        }


async def audit(journal: Journal) -> Findings:
    """Check every workspace, while traffic runs. Raises StoreUnavailable where it could not check.

    Each look at the counters is one atomic step that also says where the journal ended at that moment;
    the journal is then summed up to just there.
    """
    findings = Findings()
    for workspace in await journal.workspaces():
        await _audit_workspace(journal, workspace, findings)
    return findings


async def _audit_workspace(journal: Journal, workspace: str, findings: Findings) -> None:
    used: Sums = defaultdict(int)
    # The counters that exist are known from the books; those that appear meanwhile are looked at next time.
    first = await journal.snapshot(workspace, [])
    read_to = await _sum_up(journal, workspace, used, "", first)
    names = {name for name, _ in used}
    names.update(hold.counter for reservation in first.reservations for hold in reservation.holds)
    snapshot = await journal.snapshot(workspace, sorted(names))
    await _sum_up(journal, workspace, used, read_to, snapshot)
    _compare(workspace, sorted(names), used, snapshot, findings, time.time_ns() // 1_000_000)


async def _sum_up(journal: Journal, workspace: str, used: Sums, after: str, snapshot: Snapshot) -> str:
    async for entry in journal.entries(workspace, after=after, until=snapshot.last_record_id):
        for hold in entry.holds:
            used[hold.counter, hold.bucket] += hold.amount
    return snapshot.last_record_id


def _compare(
    workspace: str, names: list[str], used: Sums, snapshot: Snapshot, findings: Findings, now_ms: int
) -> None:
    held: Sums = defaultdict(int)
    for reservation in snapshot.reservations:
        if reservation.record is None:
            findings.orphans.append(reservation.id)
        for hold in reservation.holds:
            held[hold.counter, hold.bucket] += hold.amount
    by_counter: dict[str, set[int]] = defaultdict(set)
    for name, bucket in used.keys() | held.keys():
        by_counter[name].add(bucket)
    for name in names:
        counter = snapshot.counters.get(name)
        if counter is None:  # rightly, if all that it counted has left its window
            first = window_named(split_counter_name(name)[2]).first_bucket(now_ms)
            counter = CounterBuckets(oldest=first, buckets={}, sums=None)
        counted = {bucket for bucket in by_counter[name] | counter.buckets.keys() if bucket >= counter.oldest}
        found = {bucket: counter.buckets.get(bucket, Bucket(0, 0)) for bucket in sorted(counted)}
        for bucket, amounts in found.items():
            findings.compare(
                workspace, name, str(bucket), amounts, Bucket(used[name, bucket], held[name, bucket])
            )
        if counter.sums is not None:
            total = Bucket(
                sum(amounts.used for amounts in found.values()),
                sum(amounts.reserved for amounts in found.values()),
            )
            findings.compare(workspace, name, "sum", counter.sums, total)
