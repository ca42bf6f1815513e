"""Reading the books of a sidecar from outside, as an auditor would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from govmiddleware.app import Governance
from govmiddleware.services import records
from govmiddleware.services.audit import Findings, audit
from govmiddleware.services.records import Record
from govmiddleware.settings import Settings

Result = TypeVar("Result")


class Books:
    """The journal and the counters of a store, read through connections of their own.

    Args:
        settings: the `journal_url`, where it is not in the test's GOV_DATA_DIR.
    """

    def __init__(self, redis_url: str, workspace: str = "acme", **settings: Any) -> None:
        self._settings = Settings(redis_url=redis_url, **settings)
        self._workspace = workspace

    def records(self, kind: str = "outcome") -> list[Record]:
        async def read(governance: Governance) -> list[Record]:
            entries = governance.journal.entries(self._workspace)
            return [records.decode(entry.record) async for entry in entries]

        return [record for record in self._with(read) if record.kind == kind]

    def drained(self) -> list[Record]:
        """The outcomes that SQL has. Those of the store are in it, too, once the last worker has ended."""

        async def read(governance: Governance) -> list[Record]:
            entries = governance.history.entries(self._workspace)
            return [records.decode(entry.record) async for entry in entries]

        return [record for record in self._with(read) if record.kind == "outcome"]

    def open_reservations(self) -> int:
        async def read(governance: Governance) -> int:
            return len(await governance.journal.open_reservations(self._workspace))

        return self._with(read)

    def usage(self) -> dict[str, Any]:
        """The totals of the usage report."""

        async def read(governance: Governance) -> dict[str, Any]:
            report: Any = await governance.usage.report(workspaces=[self._workspace])
            return report["totals"]

        return self._with(read)

    def audit(self) -> Findings:
        return self._with(lambda governance: audit(governance.journal, governance.history))

    def _with(self, read: Callable[[Governance], Awaitable[Result]]) -> Result:
        async def run() -> Result:
            governance = Governance(self._settings)
            async with governance.store():
                return await read(governance)

        return asyncio.run(run())
