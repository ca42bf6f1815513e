"""A record as a row: whole, and in columns what reports select and add up."""

from __future__ import annotations

from decimal import Decimal

from govmiddleware.core.money import nano_usd
from govmiddleware.core.ports import JournalEntry
from govmiddleware.core.usage import Usage
from govmiddleware.services import records

_NOTHING = Usage()


def record_row(workspace: str, identity: str, entry: JournalEntry) -> dict[str, object]:
    """The values of `tables.records`. Debt is the cost past what was reserved; a correction speaks of what is past
    what was reserved, which its request's expired record has."""
    record = records.decode(entry.record)
    ms, _, sequence = entry.record_id.partition("-")
    is_use = record.kind in ("outcome", "correction")
    usage = (record.usage if is_use else None) or _NOTHING
    cost = _nano(record.cost_usd) if is_use else 0
    reserved = _nano(record.reserved_usd) if record.kind == "outcome" else 0
    return {
        "workspace": workspace,
        "stream_ms": int(ms),
        "stream_sequence": int(sequence),
        "identity": identity,
        "at_ms": entry.at_ms,
        "kind": record.kind,
        "api_token": record.api_token,
        "user": record.user,
        "session": record.session,
        "agent": record.agent,
        "provider": record.provider,
        "model_requested": record.model_requested,
        "model_served": record.model_served,
        "price_version": record.price_version,
        "requests": int(record.kind == "outcome"),
        "refused": record.refused,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost": cost,
        "debt": max(0, cost - reserved) if is_use else 0,
        "record": entry.record.decode(),
    }


def _nano(text: str | None) -> int:
    return nano_usd(Decimal(text or 0))
