"""What a call asks of every meter, as it grows with its output. It is reserved before the call is made."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from govmiddleware.core.limits import Amount, Meter

_WHOLE = 1_000_000
"""One unit a token, in the millionths that an Amount counts in."""


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
    """

    input_tokens: int
    output: int
    fixed_cost: int
    output_femto: int
    choices: int = 1
    predicted_tokens: int = 0
    can_be_limited: bool = True
    grows: bool = False

    def bound(self, output: int | None = None) -> Bound:
        """Limited to `output` tokens of each choice; all by default. Each part rounded up."""
        output = self.output if output is None else output
        return Bound(self.input_tokens, self._output_tokens.at(output), self._cost.at(output))

    def amounts(self) -> Mapping[Meter, Amount]:
        """Of the whole call."""
        output = self._output_tokens
        return {
            Meter.REQUESTS: Amount(1),
            Meter.INPUT_TOKENS: Amount(self.input_tokens),
            Meter.OUTPUT_TOKENS: output,
            Meter.TOTAL_TOKENS: Amount(self.input_tokens + output.fixed, output.per_token),
            Meter.COST_USD: self._cost,
            Meter.CONCURRENCY: Amount(1),
            Meter.WALL_CLOCK: Amount(0),
        }

    @property
    def _output_tokens(self) -> Amount:
        return Amount(self.predicted_tokens, self.choices * _WHOLE)

    @property
    def _cost(self) -> Amount:
        return Amount(self.fixed_cost, self.choices * self.output_femto)


NOTHING = Demand(input_tokens=0, output=0, fixed_cost=0, output_femto=0)
"""Of a request that calls no model: it counts as a request, and takes a place."""


def growth(demand: Demand) -> Mapping[Meter, Amount]:
    """What further output asks, by output token of every choice."""
    return {meter: Amount(0, amount.per_token) for meter, amount in demand.amounts().items()}
