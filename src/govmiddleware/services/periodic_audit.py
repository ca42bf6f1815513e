"""Periodic audits: the books are checked by themselves, by one of all the workers on the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from govmiddleware.core.ports import Ledger
from govmiddleware.metrics import Metrics
from govmiddleware.services.audit import Findings

logger = logging.getLogger("govmiddleware.audit")

_AGAIN_SECONDS = 5.0
"""After a failover of the store the books may not be read to their end until the drainer has looked."""
_MOST_NAMED = 20
"""What is wrong in one log line. `govmiddleware audit` shows all."""


class PeriodicAudit:
    """Audits about every `seconds`, on the worker that takes the turn. One that dies in its audit costs the others
    that turn.

    Args:
        audit: checks all books. Raises StoreUnavailable and HistoryUnavailable.

    Attributes:
        look_seconds: how often a worker looks whether it is time. More often than it is, so that deployments whose
            workers do not live that long are audited too.
    """

    def __init__(
        self, ledger: Ledger, audit: Callable[[], Awaitable[Findings]], metrics: Metrics, *, seconds: float
    ) -> None:
        self._ledger = ledger
        self._audit = audit
        self._metrics = metrics
        self._turn_ms = max(1, round(seconds * 1000))
        self.look_seconds = min(60.0, seconds / 2)

    async def look(self) -> None:
        """Audit, if it is time and the turn is ours. Raises what `audit` raises."""
        if not await self._ledger.take_audit_turn(self._turn_ms):
            return
        try:
            findings = await self._audit()
            if not findings.ok:
                await asyncio.sleep(_AGAIN_SECONDS)
                findings = await self._audit()
        except Exception as error:
            self._metrics.audits.labels("unable").inc()
            logger.warning("the books could not be audited: %s", error)
            raise
        self._metrics.audits.labels("clean" if findings.ok else "differences").inc()
        if findings.ok:
            logger.info("the books are in order: %d amounts were checked", findings.checked)
            return
        wrong = list(_wrong(findings))
        more = f"; and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        logger.error("the books do not balance: %s%s", "; ".join(wrong[:_MOST_NAMED]), more)


def _wrong(findings: Findings) -> Iterator[str]:
    for each in findings.differences:
        yield (
            f"{each.limit} of {each.value!r} in workspace {each.workspace}, {each.window}: the counter has {each.counter},"
            f" the journal {each.journal}, and {each.reserved} too much is reserved"
        )
    for orphan in findings.orphans:
        yield f"{orphan} is in the store, and no book explains it"
    for workspace in findings.lost:
        yield f"the store has lost what it had of workspace {workspace}"
    if findings.chain is not None and findings.chain.problem:
        yield f"the audit log: {findings.chain.problem}"
