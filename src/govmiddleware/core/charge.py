"""What a finished call is charged."""

from __future__ import annotations

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

    def amount(self, meter: Meter) -> int:
        match meter:
            case Meter.REQUESTS:
                return 1
            case Meter.INPUT_TOKENS:
                return self.usage.input_tokens
            case Meter.OUTPUT_TOKENS:
                return self.usage.output_tokens
            case Meter.TOTAL_TOKENS:
                return self.usage.total_tokens
            case Meter.COST_USD:
                return self.cost
            case Meter.CONCURRENCY | Meter.WALL_CLOCK:
                return 0
