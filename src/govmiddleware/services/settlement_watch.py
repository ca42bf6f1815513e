"""Settlements after they were sent: does the store still have what it acknowledged, and what became of those
that found no open reservation?

A store may come back without the last of what it acknowledged: an append-only file synced every second, and
replicas that follow asynchronously, both allow it. So every worker keeps its settlements of the last seconds
and, when another run of the store answers, looks for them in the journal. What is missing is sent again,
which heals it where only the settlement was lost; where the reservation was lost too, it is applied without one
(`lost_settlements`).

The same look explains a settlement that found no open reservation: it had been taken before, and only its
answer was lost; or the reservation was swept; or the store has lost it.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from govmiddleware.core.journal import Journal
from govmiddleware.core.limits import Counter
from govmiddleware.core.money import usd_text
from govmiddleware.core.ports import Ledger, Settled
from govmiddleware.metrics import Metrics
from govmiddleware.services import records
from govmiddleware.services.lost_settlements import LostSettlements

logger = logging.getLogger("govmiddleware.settlement_watch")

CHECK_SECONDS = 1.0

_KEPT_SECONDS = 10.0
"""How long before the last sign of life of a store its acknowledgements are doubted."""
_KEPT_MOST = 10_000
_PACKED_AT_ONCE = 32
"""In a fifth of a millisecond. A pack of more would be no smaller by much."""
_FAST = -5
"""zstd's level: a sixth of the memory is left, for 3 µs a settlement."""
_DOUBTED = "doubted"
"""In place of a run that answered."""
_CLOCKS_APART_SECONDS = 10.0
"""By how much a failover may move the clock that the journal's ids are made by."""


class SentSettlement(msgspec.Struct, frozen=True):
    """What the ledger was asked to settle for one call.

    Attributes:
        tokens, cost: what the call used, for the report; cost in nano-USD.
        opened, sent: when its call began and when the ledger was asked, by `time.monotonic()`.
    """

    workspace: str
    reservation_id: str
    counters: tuple[Counter, ...]
    amounts: Mapping[str, int]
    record: bytes
    tokens: int
    cost: int
    opened: float
    sent: float

    @property
    def part(self) -> _Part:
        return self.workspace, self.reservation_id


_Part = tuple[str, str]
"""A workspace and a reservation's id: a call has one in each of two, where limits over the deployment bind it."""


class _Pack(NamedTuple):
    """Some settlements, in little memory: hardly any is ever looked at again.

    Attributes:
        newest: when the last of them was sent.
    """

    newest: float
    compressed: bytes

    @classmethod
    def of(cls, some: list[SentSettlement]) -> _Pack:
        return cls(max(sent.sent for sent in some), zstd.compress(pickle.dumps(some), level=_FAST))

    def unpacked(self) -> list[SentSettlement]:
        some: list[SentSettlement] = pickle.loads(zstd.decompress(self.compressed))
        return some


class SettlementWatch:
    """Keeps this process's settlements of the last seconds; `check` is its work, to be done every second.

    It trusts that the journal in the store has what was settled within the last minute.

    Args:
        lost: applies what the store has lost with its reservation; without it that is reported.
    """

    def __init__(
        self, ledger: Ledger, journal: Journal, metrics: Metrics, lost: LostSettlements | None = None
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._metrics = metrics
        self._lost = lost
        self._run_id = ""
        self._packs: deque[_Pack] = deque(maxlen=_KEPT_MOST // _PACKED_AT_ONCE)
        self._kept: dict[_Part, SentSettlement] = {}
        """Those that are in no pack."""
        self._unexplained: dict[_Part, tuple[SentSettlement, Callable[[], None] | None]] = {}

    def answered(
        self, sent: SentSettlement, settled: Settled, count: Callable[[], None] | None = None
    ) -> None:
        """To be told of each answer of the ledger. `count` is called once it is certain that it was settled."""
        if settled is Settled.NOT_OPEN:
            self._unexplained[sent.part] = sent, count
            return
        if count:
            count()
        if settled is Settled.IN_PART:
            self._report_lost([sent])
        kept = self._kept
        kept[sent.workspace, sent.reservation_id] = sent
        if len(kept) > _KEPT_MOST:
            del kept[next(iter(kept))]

    def doubt(self) -> None:
        """The store has lost something, though it may be the same run of it."""
        self._run_id = _DOUBTED

    async def check(self) -> None:
        """Look after what another run of the store may have lost, and explain what is unexplained.

        Raises StoreUnavailable and HistoryUnavailable; the next check then does what is left.
        """
        asked = time.monotonic()
        run_id = await self._ledger.run_id()
        doubtful = [sent for sent, _ in self._unexplained.values()]
        if run_id != self._run_id:
            self._unpack()
            doubtful += self._kept.values()
        by_workspace: dict[str, list[SentSettlement]] = defaultdict(list)
        for sent in doubtful:
            by_workspace[sent.workspace].append(sent)
        for workspace, group in by_workspace.items():
            await self._look_after(workspace, group)
        if self._lost is not None and self._run_id not in ("", run_id):
            await self._lost.restore()
        self._run_id = run_id
        await self._let_go(asked - _KEPT_SECONDS)
        await self._pack()

    async def _let_go(self, before: float) -> None:
        """Of those sent before, unless the store takes no writes: then its disk or its replicas may lack them."""
        old = [part for part, sent in self._kept.items() if sent.sent <= before]
        has_old_packs = self._packs and self._packs[0].newest <= before
        if (old or has_old_packs) and await self._ledger.takes_writes():
            for part in old:
                self._kept.pop(part, None)
            while self._packs and self._packs[0].newest <= before:
                self._packs.popleft()

    async def _pack(self) -> None:
        while len(self._kept) >= _PACKED_AT_ONCE:
            some = list(islice(self._kept.values(), _PACKED_AT_ONCE))
            self._packs.append(_Pack.of(some))
            for sent in some:
                del self._kept[sent.part]
            await asyncio.sleep(0)

    def _unpack(self) -> None:
        packed = {sent.part: sent for pack in self._packs for sent in pack.unpacked()}
        self._packs.clear()
        self._kept = packed | self._kept

    async def _look_after(self, workspace: str, group: Sequence[SentSettlement]) -> None:
        journaled = await self._journaled(workspace, group)
        if missing := [sent for sent in group if sent.reservation_id not in journaled]:
            await self._send_again(workspace, missing)
            journaled = await self._journaled(workspace, group)
        lost = []
        if self._lost is not None:
            missing = [sent for sent in group if sent.reservation_id not in journaled]
            journaled |= await self._lost.drained(workspace, [sent.reservation_id for sent in missing])
            await self._apply(self._lost, [sent for sent in missing if sent.reservation_id not in journaled])
            journaled = {sent.reservation_id: sent.record for sent in missing} | journaled
        for sent in group:
            _, count = self._unexplained.pop(sent.part, (sent, None))
            record = journaled.get(sent.reservation_id)
            if record == sent.record:
                if count:
                    count()
                continue
            self._kept.pop(sent.part, None)
            if record is None:
                lost.append(sent)
            else:
                self._report_late(sent)
        if lost:
            self._report_lost(lost)

    async def _journaled(self, workspace: str, group: Sequence[SentSettlement]) -> dict[str, bytes]:
        """The records that the journal has of their reservations."""
        wanted = {sent.reservation_id for sent in group}
        # Of what was acknowledged no record is older; what was swept may have been at any time of its call.
        oldest = min(sent.sent if sent.part in self._kept else sent.opened for sent in group)
        seconds = time.monotonic() - oldest + _CLOCKS_APART_SECONDS
        found = {}
        async for entry in self._journal.recent(workspace, seconds):
            reservation_id = records.reservation_id_in(entry.record)
            if reservation_id in wanted:
                found[reservation_id] = entry.record
        return found

    async def _send_again(self, workspace: str, missing: Iterable[SentSettlement]) -> None:
        healed = []
        for sent in missing:
            settled = await self._ledger.settle(
                workspace, sent.reservation_id, sent.counters, sent.amounts, sent.record
            )
            if settled is Settled.IN_PART:
                self._report_lost([sent])
            if settled in (Settled.WHOLE, Settled.IN_PART):
                healed.append(sent.reservation_id)
        if healed:
            logger.warning(
                "the store had lost %d settlements of workspace %s, and has taken them again: %s",
                len(healed),
                workspace,
                ", ".join(healed),
            )

    async def _apply(self, lost: LostSettlements, missing: Sequence[SentSettlement]) -> None:
        for sent in missing:
            await lost.apply(sent.workspace, sent.reservation_id, sent.counters, sent.amounts, sent.record)
        if missing:
            logger.warning(
                "the store had lost %d settlements of workspace %s with their reservations, and they are charged "
                "again: %s",
                len(missing),
                missing[0].workspace,
                ", ".join(sent.reservation_id for sent in missing),
            )

    def _report_late(self, sent: SentSettlement) -> None:
        self._metrics.late_settlements.inc()
        logger.error(
            "%s was swept before it was settled: charged as reserved, used %s USD",
            sent.reservation_id,
            usd_text(sent.cost),
        )

    def _report_lost(self, lost: Sequence[SentSettlement]) -> None:
        self._metrics.lost_settlements.inc(len(lost))
        logger.error(
            "the store has lost %d settlements of workspace %s: %d tokens and %s USD that were used are missing "
            "in its counters and reports. Requests: %s",
            len(lost),
            lost[0].workspace,
            sum(sent.tokens for sent in lost),
            usd_text(sum(sent.cost for sent in lost)),
            ", ".join(sent.reservation_id for sent in lost),
        )
