"""What a call asks of every meter, as it grows with its output. It is reserved before the call is made."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import force_setattr

from govmiddleware.core.limits import Amount, Meter

_WHOLE = 1_000_000
"""One unit a token, in the millionths that an Amount counts in."""

_ONE, _NONE = Amount(1), Amount(0)

# Python 3.11 takes five times as long to find a member at its class as to find a name.
_REQUESTS, _INPUT_TOKENS, _OUTPUT_TOKENS, _TOTAL_TOKENS, _COST_USD, _CONCURRENCY, _WALL_CLOCK = Meter


class Bound(msgspec.Struct, frozen=True):
    """What a call may use at most. Cost in nano-USD."""

    input_tokens: int
    output_tokens: int
    cost: int


class Demand(msgspec.Struct, frozen=True):
    """The bound of a call for any output that it may be limited to.

    Attributes:
        output: tokens of each choice, at most: what the client or the model limits it to. 0 where nothing is
            generated.
        predicted_tokens: output tokens that may be billed whatever the limit.
        fixed_cost: nano-USD whatever the output.
        output_femto: femto-USD an output token.
        can_be_limited: whether less output than that can be asked of the provider.
        grows: whether the answer shows what it generates as it comes, so that it can be reserved in slices.
        whole: its bound if nothing limits it further. It follows from the others.
    """

    input_tokens: int
    output: int
    fixed_cost: int
    output_femto: int
    choices: int = 1
    predicted_tokens: int = 0
    can_be_limited: bool = True
    grows: bool = False
    whole: Bound = Bound(0, 0, 0)

    def __post_init__(self) -> None:
        force_setattr(self, "whole", self.bound(self.output))

    def bound(self, output: int) -> Bound:
        """Limited to `output` tokens of each choice. Each part rounded up."""
        generated = self.choices * output
        cost = self.fixed_cost + -(-generated * self.output_femto // _WHOLE)
        return Bound(self.input_tokens, self.predicted_tokens + generated, cost)

    def amounts(self) -> Mapping[Meter, Amount]:
        """Of the whole call."""
        per_token = self.choices * _WHOLE
        return {
            _REQUESTS: _ONE,
            _INPUT_TOKENS: Amount(self.input_tokens),
            _OUTPUT_TOKENS: Amount(self.predicted_tokens, per_token),
            _TOTAL_TOKENS: Amount(self.input_tokens + self.predicted_tokens, per_token),
            _COST_USD: Amount(self.fixed_cost, self.choices * self.output_femto),
            _CONCURRENCY: _ONE,
            _WALL_CLOCK: _NONE,
        }


NOTHING = Demand(input_tokens=0, output=0, fixed_cost=0, output_femto=0)
"""Of a request that calls no model: it counts as a request, and takes a place."""


def growth(demand: Demand) -> Mapping[Meter, Amount]:
    """What further output asks, by output token of every choice."""
    return {meter: Amount(0, amount.per_token) for meter, amount in demand.amounts().items()}
