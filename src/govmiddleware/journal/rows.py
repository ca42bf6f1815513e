"""A record as a row: whole, and in columns what reports select and add up."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict, dataclass

from govmiddleware.core.journal import JournalEntry
from govmiddleware.services import records
from govmiddleware.services.records import UNREADABLE, Record

_LARGEST = 2**63 - 1
"""Of a column."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry on its way into a row.

    Attributes:
        identity: what makes two records the same one. A reservation has one outcome and one correction, under
            whichever id the stream has them: a store that lost the last of what it acknowledged is sent it again.
            Of other records the id, and what they say: after a failover two may have the same id.
        amounts: the columns that are added up.
        text: the record as the table has it.
    """

    entry: JournalEntry
    record: Record
    identity: str
    amounts: dict[str, int]
    text: str


def draft(entry: JournalEntry) -> Draft:
    """What does not fit into columns is kept all the same: whole, in base64, as of kind UNREADABLE."""
    record = records.decode(entry.record)
    try:
        if record.kind == UNREADABLE:
            raise ValueError("it is no record of ours")
        amounts, text = _amounts(record), _text(entry.record)
    except (ValueError, ArithmeticError):
        record = Record(kind=UNREADABLE, workspace="")
        amounts, text = _amounts(record), base64.b64encode(entry.record).decode()
    return Draft(entry, record, _identity(entry, record), amounts, text)


def record_row(workspace: str, drafted: Draft) -> dict[str, object]:
    """The values of `tables.records`."""
    entry, record = drafted.entry, drafted.record
    ms, _, sequence = entry.record_id.partition("-")
    return {
        "workspace": workspace,
        "stream_ms": int(ms),
        "stream_sequence": int(sequence),
        "identity": drafted.identity,
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
        **drafted.amounts,
        "record": drafted.text,
    }


def record_bytes(kind: str, text: str) -> bytes:
    """The record as the stream had it, from its columns."""
    return base64.b64decode(text) if kind == UNREADABLE else text.encode()


def _amounts(record: Record) -> dict[str, int]:
    """Raises ValueError and ArithmeticError for what is no amount."""
    amounts = asdict(records.sums_of(record))
    del amounts["reserved"]  # nothing is, once it is journaled
    if any(abs(amount) > _LARGEST for amount in amounts.values()):
        raise ValueError("an amount is larger than a column's largest")
    return amounts


def _text(raw: bytes) -> str:
    """Raises ValueError for what is no text of PostgreSQL's."""
    text = raw.decode()
    if "\0" in text:
        raise ValueError("a NUL")
    return text


def _identity(entry: JournalEntry, record: Record) -> str:
    if record.reservation_id is not None and record.kind in ("outcome", "correction"):
        return f"{record.kind}:{record.reservation_id}".replace("\0", "\\0")
    return f"{entry.record_id}:{hashlib.sha256(entry.record).hexdigest()[:16]}"
