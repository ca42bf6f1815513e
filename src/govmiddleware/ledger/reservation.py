"""A reservation as the store keeps it: `lua/_counters.lua` says how."""

from __future__ import annotations

from typing import Any

import msgspec


class StoredReservation(msgspec.Struct, frozen=True, array_like=True):
    """What a reservation holds. One that the store does not have, or that was cancelled before it came, holds nothing.

    Attributes:
        swept_ms: 0 while it is open.
        record: for the case that its lease runs out.
        holds: of each the counter's key, kind, whether it is a shadow, what it raises, then buckets and amounts.
    """

    admitted_ms: int = 0
    swept_ms: int = 0
    record: str = ""
    holds: list[list[Any]] = []

    @property
    def is_open(self) -> bool:
        return self.admitted_ms > 0 and self.swept_ms == 0

    def keys(self) -> list[str]:
        """Of the counters that it holds."""
        return [hold[0] for hold in self.holds]


_decoder = msgspec.msgpack.Decoder(StoredReservation)


def read_reservation(stored: bytes | None) -> StoredReservation:
    return _decoder.decode(stored) if stored else StoredReservation()
