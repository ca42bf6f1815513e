"""What a finished call is charged."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from govmiddleware.core.call import Settlement
from govmiddleware.core.limits import Meter
from govmiddleware.core.usage import Usage


class Outcome(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    UPSTREAM_ERROR = "upstream_error"
    ABORTED = "aborted"
    CUT = "cut"  # a stream that a limit ended
    EXPIRED = "expired"


class Charge(msgspec.Struct, frozen=True):
    """What is settled for one call. Cost in nano-USD.

    Attributes:
        cost_was_told: whether the cost is what the upstream said, not what the prices come to.
    """

    usage: Usage
    cost: int
    settlement: Settlement
    outcome: Outcome
    cost_was_told: bool = False

    def amounts(self) -> Mapping[Meter, int]:
        usage = self.usage
        return {
            Meter.REQUESTS: 1,
            Meter.INPUT_TOKENS: usage.input_tokens,
            Meter.OUTPUT_TOKENS: usage.output_tokens,
            Meter.TOTAL_TOKENS: usage.input_tokens + usage.output_tokens,
            Meter.COST_USD: self.cost,
            Meter.CONCURRENCY: 0,
            Meter.WALL_CLOCK: 0,
        }
