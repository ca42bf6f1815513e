"""What one model costs. In integers throughout.

Rates are whole femto-USD (1e-15) a token: $1 per million tokens is 1000 nano-USD a token, and prices
have up to six more digits. A call's cost is summed exactly and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal

from govmiddleware.core.usage import Usage

_FEMTO_PER_NANO = 10**6


@dataclass(frozen=True, slots=True)
class Rates:
    """femto-USD a token, for calls with more than `above` input tokens (0: for all)."""

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    output: int = 0
    above: int = 0


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What one model costs and how much it can say.

    Attributes:
        model: its name in the catalogue, or the name or glob of the configuration; bounded in number,
            so that it can label a metric.
        max_output_tokens: the most it generates in one answer, where that is known.
        source: where the rates come from, for people.
        rates: ascending by `above`, the first from 0 on. The last that the input exceeds are in force,
            for all tokens of the call.
        request_femto: femto-USD for each request.
    """

    model: str
    max_output_tokens: int | None
    source: str
    rates: tuple[Rates, ...] = (Rates(),)
    request_femto: int = 0

    def cost(self, usage: Usage, *, round_up: bool = False) -> int:
        """nano-USD, rounded once: half-even, or up. Images, audio and searches have no price of their
        own here: what they use counts as the tokens that it is reported as."""
        rates = self._rates_for(usage.input_tokens)
        # Where a report counts tokens as both read from the cache and written to it: the dearer of the two.
        written = min(usage.cache_write_tokens, usage.input_tokens)
        cached = min(usage.cached_tokens, usage.input_tokens - written)
        femto = (
            (usage.input_tokens - cached - written) * rates.input
            + cached * rates.cached_input
            + written * rates.cache_write
            + usage.output_tokens * rates.output
            + self.request_femto
        )
        return _nano(femto, round_up=round_up)

    def worst_cost(self, input_tokens: int, output_tokens: int) -> int:
        """nano-USD, rounded up: no usage within these tokens costs more.

        No cache discount is assumed, and the whole input may be written to the cache where that is
        dearer. A smaller input may fall into another tier, so every one within reach is considered.
        """
        fixed, output_femto = self.worst_rates(input_tokens)
        return _nano(fixed + output_tokens * output_femto, round_up=True)

    def worst_rates(self, input_tokens: int) -> tuple[int, int]:
        """femto-USD: of the request with its whole input, and of each output token, at the worst."""
        reachable = [rates for rates in self.rates if rates.above < input_tokens] or [self.rates[0]]
        return (
            max(input_tokens * max(rates.input, rates.cached_input, rates.cache_write) for rates in reachable)
            + self.request_femto,
            max(rates.output for rates in reachable),
        )

    def _rates_for(self, input_tokens: int) -> Rates:
        for rates in reversed(self.rates):
            if input_tokens > rates.above:
                return rates
        return self.rates[0]


@dataclass(frozen=True, slots=True)
class FromDate:
    """Holds from the start of a day on, UTC."""

    start: date

    def holds(self, moment: datetime) -> bool:
        return moment.date() >= self.start


@dataclass(frozen=True, slots=True)
class Daily:
    """Holds in a part of each day, UTC, the end left out; it may span midnight."""

    start: time
    end: time

    def holds(self, moment: datetime) -> bool:
        now = moment.time()
        if self.end < self.start:
            return now >= self.start or now < self.end
        return self.start <= now < self.end


@dataclass(frozen=True, slots=True)
class PriceHistory:
    """A model's prices over time: the last one whose condition holds is in force, else the first."""

    prices: tuple[tuple[FromDate | Daily | None, ModelPrice], ...]

    def at(self, moment: datetime | None = None) -> ModelPrice:
        """The price in force at `moment` (with a time zone; now where left out)."""
        if len(self.prices) > 1:
            moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
            for condition, price in reversed(self.prices):
                if condition is None or condition.holds(moment):
                    return price
        return self.prices[0][1]

    @property
    def dearest(self) -> int:
        """To compare by: nano-USD of a typical call at the worst of times."""
        return max(price.worst_cost(3_000, 1_000) for _, price in self.prices)


def femto_per_token(usd_per_mtok: Decimal) -> int:
    """USD per million tokens to femto-USD a token; what is finer is rounded up."""
    return _whole(usd_per_mtok * 10**9)


def femto(usd: Decimal) -> int:
    """USD to femto-USD; what is finer is rounded up."""
    return _whole(usd * 10**15)


def nano_from_femto(amount: int) -> int:
    """femto-USD to nano-USD, rounded up."""
    return _nano(amount, round_up=True)


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))


def _nano(amount: int, *, round_up: bool) -> int:
    nano, rest = divmod(amount, _FEMTO_PER_NANO)
    if round_up:
        return nano + (rest > 0)
    double = 2 * rest
    return nano + (double > _FEMTO_PER_NANO or (double == _FEMTO_PER_NANO and nano % 2 == 1))
