"""A record as a row: whole, and in columns what reports select and add up."""

from __future__ import annotations

from dataclasses import asdict

from govmiddleware.core.ports import JournalEntry
from govmiddleware.services import records


def record_row(workspace: str, identity: str, entry: JournalEntry) -> dict[str, object]:
    """The values of `tables.records`."""
    record = records.decode(entry.record)
    ms, _, sequence = entry.record_id.partition("-")
    sums = asdict(records.sums_of(record))
    del sums["reserved"]  # nothing is, once it is journaled
    return {
        "workspace": workspace,
        "stream_ms": int(ms),
        "stream_sequence": int(sequence),
        "identity": identity,
        "at_ms": entry.at_ms,
        "time_ms": entry.time_ms,
        "is_inner": record.parent_request_id is not None,
        "kind": record.kind,
        "api_token": record.api_token,
        "user": record.user,
        "session": record.session,
        "agent": record.agent,
        "provider": record.provider,
        "model_requested": record.model_requested,
        "model_served": record.model_served,
        "price_version": record.price_version,
        "outcome": record.outcome,
        "would_refuse": record.would_refuse,
        "record": entry.record.decode(),
        **sums,
    }
