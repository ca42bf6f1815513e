"""A reservation as the store keeps it: `lua/_counters.lua` says how."""

from __future__ import annotations

import msgspec


class StoredReservation(msgspec.Struct, frozen=True):
    """What a reservation holds. One that the store does not have, or that was cancelled before it came, holds nothing.

    Attributes:
        is_open: whether it was not swept.
        record: for the case that its lease runs out.
        holds: by the counter's key, as "<kind> <bucket> <amount>[ ..]".
    """

    admitted_ms: int = 0
    is_open: bool = False
    record: str = ""
    holds: dict[str, str] = {}


def read_reservation(stored: bytes | None) -> StoredReservation:
    if not stored:
        return StoredReservation()
    admitted_ms, swept_ms, record, *holds = msgspec.msgpack.decode(stored)
    return StoredReservation(
        admitted_ms, swept_ms == 0, record, dict(zip(holds[::3], holds[1::3], strict=True))
    )
