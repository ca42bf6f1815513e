"""The books after calls from inside."""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware import Governance
from govmiddleware.services.audit import audit

Record = dict[str, Any]


async def read_books(governance: Governance) -> list[Record]:
    """All records of the workspace, with their holds, from a Governance that is closed for that; the books balance."""
    await governance.close()
    async with governance.store():
        findings = await audit(governance.journal)
        assert findings.differences == []
        assert await governance.journal.open_reservations("acme") == []
        return [
            msgspec.json.decode(entry.record) | {"holds": {h.counter: h.amount for h in entry.holds}}
            async for entry in governance.journal.entries("acme")
        ]
