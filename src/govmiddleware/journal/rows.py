"""A record as a row: whole, and in columns what reports select and add up."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from govmiddleware.core.journal import JournalEntry
from govmiddleware.core.money import nano_usd
from govmiddleware.journal.tables import kept, records
from govmiddleware.services.records import UNREADABLE

_LARGEST = 2**63 - 1
"""Of a column."""

COLUMNS = (
    records.c.workspace,
    records.c.stream_ms,
    records.c.stream_sequence,
    records.c.identity,
    records.c.at_ms,
    records.c.time_ms,
    records.c.is_inner,
    records.c.kind,
    records.c.api_token,
    records.c.user,
    records.c.session,
    records.c.agent,
    records.c.provider,
    records.c.model_requested,
    records.c.model_served,
    records.c.price_version,
    records.c.outcome,
    records.c.would_refuse,
    records.c.requests,
    records.c.refused,
    records.c.input_tokens,
    records.c.cached_tokens,
    records.c.cache_write_tokens,
    records.c.output_tokens,
    records.c.reasoning_tokens,
    records.c.cost,
    records.c.debt,
    records.c.record,
)
"""Of `Draft.values`, in their order."""


class Draft(NamedTuple):
    """An entry on its way into a row. A tuple, as there are many.

    Attributes:
        identity: what makes two records the same one. A reservation has one outcome and one correction, under
            whichever id the stream has them: a store that lost the last of what it acknowledged is sent it again.
            Of other records the id, and what they say: after a failover two may have the same id.
        position: the entry's id, as two numbers.
        kind: of the record.
        values: of the columns in `COLUMNS`.
        tags: names and values, as columns of type `tables.Name` have them, as the names in `values`.
        held: by counter, whose name is as it came, and bucket, all that the record did to it.
    """

    entry: JournalEntry
    identity: str
    position: tuple[int, int]
    kind: str
    values: tuple[Any, ...]
    tags: tuple[tuple[str, str], ...]
    held: dict[tuple[str, int], int]


class _Used(msgspec.Struct):
    """Of `core.usage.Usage`, what has a column."""

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class _Said(msgspec.Struct):
    """Of `services.records.Record`, what has a column: the rest, which is most of it, is not even decoded."""

    kind: str
    workspace: str
    parent_request_id: str | None = None
    reservation_id: str | None = None
    api_token: str | None = None
    user: str | None = None
    session: str | None = None
    agent: str | None = None
    tags: dict[str, str] = {}
    provider: str | None = None
    model_requested: str | None = None
    model_served: str | None = None
    reserved_usd: str | None = None
    usage: _Used | None = None
    cost_usd: str | None = None
    price_version: str | None = None
    would_refuse: str | None = None
    outcome: str | None = None
    refused: int = 0


_decoder = msgspec.json.Decoder(_Said)
_NOTHING_USED = _Used()
_NOTHING_READ = _Said(UNREADABLE, "")


def draft(workspace: str, entry: JournalEntry) -> Draft:
    """What does not fit into columns is kept all the same: whole, in base64, as of kind UNREADABLE."""
    try:
        text = entry.record.decode()
        said = _decoder.decode(entry.record)
        amounts = _amounts(said)
        if said.kind == UNREADABLE or "\0" in text or max(amounts) > _LARGEST or min(amounts) < -_LARGEST:
            raise ValueError("it is no record of ours, or has what no column has")
    except (ValueError, ArithmeticError, RecursionError):  # msgspec's are ValueErrors
        said, text = _NOTHING_READ, base64.b64encode(entry.record).decode()
        amounts = _amounts(said)
    tags: Iterable[tuple[str, str]] = said.tags.items()
    names: tuple[str | None, ...] = (
        said.kind,
        said.api_token,
        said.user,
        said.session,
        said.agent,
        said.provider,
        said.model_requested,
        said.model_served,
        said.price_version,
        said.outcome,
        said.would_refuse,
    )
    if b"\\" in entry.record:  # in JSON nothing else begins what `kept` replaces
        names = tuple(name and kept(name) for name in names)
        tags = [(kept(name), kept(value)) for name, value in tags]
    identity, at = _identity(entry, said), position(entry.record_id)
    is_inner = said.parent_request_id is not None
    key = (workspace, *at, identity, entry.at_ms, entry.time_ms, is_inner)
    held: dict[tuple[str, int], int] = {}
    for hold in entry.holds:
        place = hold.counter, hold.bucket
        held[place] = held.get(place, 0) + hold.amount
    return Draft(entry, identity, at, said.kind, (*key, *names, *amounts, text), tuple(tags), held)


def position(record_id: str) -> tuple[int, int]:
    """Of an id of the stream, in an order."""
    ms, _, sequence = record_id.partition("-")
    return int(ms), int(sequence or 0)


def record_bytes(kind: str, text: str) -> bytes:
    """The record as the stream had it, from its columns."""
    return base64.b64decode(text) if kind == UNREADABLE else text.encode()


def _amounts(said: _Said) -> tuple[int, ...]:
    """As `services.records.sums_of` adds them up. Raises ArithmeticError for what is no amount."""
    if said.kind not in ("outcome", "correction"):
        return (0, said.refused, 0, 0, 0, 0, 0, 0, 0)
    used, cost = said.usage or _NOTHING_USED, nano_usd(said.cost_usd or 0)
    is_outcome = said.kind == "outcome"
    reserved = nano_usd(said.reserved_usd or 0) if is_outcome else 0
    return (
        int(is_outcome),
        said.refused,
        used.input_tokens,
        used.cached_tokens,
        used.cache_write_tokens,
        used.output_tokens,
        used.reasoning_tokens,
        cost,
        max(0, cost - reserved),
    )


def _identity(entry: JournalEntry, said: _Said) -> str:
    if said.reservation_id is not None and said.kind in ("outcome", "correction"):
        return f"{said.kind}:{said.reservation_id}".replace("\0", "\\0")
    return f"{entry.record_id}:{hashlib.sha256(entry.record).hexdigest()[:16]}"
