"""Exposure: by how much the open streams could go past what is reserved for them."""

from __future__ import annotations

from govmiddleware.core.call import Call
from govmiddleware.metrics import Metrics


class Exposure:
    """Keeps the gauge `govmiddleware_overspend_bound_usd`: the sum, over the streams of this process that reserve
    in slices, of what they may use at most less what is reserved."""

    def __init__(self, metrics: Metrics) -> None:
        self._gauge = metrics.overspend_bound.labels()
        self._open: dict[str, int] = {}
        self._total = 0

    def changed(self, call: Call) -> None:
        """A call has reserved a slice."""
        bound, reserved = call.bound, call.reserved
        self._set(call, bound.cost - reserved.cost if bound and reserved else 0)

    def ended(self, call: Call) -> None:
        if call.request_id in self._open:
            self._set(call, 0)

    def _set(self, call: Call, amount: int) -> None:
        before = self._open.pop(call.request_id, 0)
        if amount:
            self._open[call.request_id] = amount
        if amount != before:
            self._total += amount - before
            self._gauge.value = self._total / 1e9
