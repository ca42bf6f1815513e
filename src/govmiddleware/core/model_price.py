"""What one model costs. In integers throughout.

Rates are whole femto-USD (1e-15): $1 per million tokens is 1000 nano-USD a token, and prices have up to six
more digits. A call's cost is summed exactly and rounded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from functools import cached_property

import msgspec

from govmiddleware.core.usage import ANYTHING, NO_USAGE, Reach, Usage

_FEMTO_PER_NANO = 10**6
_MS_PER_HOUR = 3_600_000


class Rates(msgspec.Struct, frozen=True, dict=True):
    """What each class of use costs, in calls with more than `above` input tokens (0: in all).

    femto-USD for each token, but where a name says something else. Classes do not overlap: a token is charged
    at the rate of the narrowest one that it belongs to. `rates_of` fills in those without a price of their own.
    """

    input: int = 0
    cached_input: int = 0
    cache_write: int = 0
    output: int = 0
    above: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    input_audio: int = 0
    input_image: int = 0
    input_video: int = 0
    cached_audio: int = 0
    cached_image: int = 0
    output_audio: int = 0
    output_image: int = 0
    audio_hour: int = 0
    character: int = 0
    web_search: int = 0
    file_search: int = 0
    image: int = 0
    request: int = 0
    least_audio_ms: int = 0
    """Shorter sound is billed as if it were so long."""

    def of(self, usage: Usage) -> int:
        """femto-USD of all that a call used, the request itself included."""
        prompt, cached, written = usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens
        output, reasoning = usage.output_tokens, usage.reasoning_tokens
        is_text = usage == Usage(prompt, cached, written, output, reasoning)  # and nothing else
        if is_text and 0 <= cached <= prompt - written <= prompt and 0 <= reasoning <= output:
            return (
                (prompt - cached - written) * self.input
                + cached * self.cached_input
                + written * self.cache_write
                + (output - reasoning) * self.output
                + reasoning * self.reasoning
                + self.request
            )
        return self._of_input(usage) + self._of_output(usage) + self.of_others(usage)

    def _of_input(self, usage: Usage) -> int:
        """Of the prompt. Where a report counts tokens as both written to the cache and read from it, they were
        written: the dearer."""
        written_1h = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
        cached_audio, cached_image = usage.cached_audio_tokens, usage.cached_image_tokens
        parts = (
            (written_1h, self.cache_write_1h),
            (usage.cache_write_tokens - written_1h, self.cache_write),
            (cached_audio, self.cached_audio),
            (cached_image, self.cached_image),
            (usage.cached_tokens - cached_audio - cached_image, self.cached_input),
            (usage.input_audio_tokens - cached_audio, self.input_audio),
            (usage.input_image_tokens - cached_image, self.input_image),
            (usage.input_video_tokens, self.input_video),
        )
        return _shared_out(usage.input_tokens, parts, self.input)

    def _of_output(self, usage: Usage) -> int:
        """Of what was generated."""
        parts = (
            (usage.output_audio_tokens, self.output_audio),
            (usage.output_image_tokens, self.output_image),
            (usage.reasoning_tokens, self.reasoning),
        )
        return _shared_out(usage.output_tokens, parts, self.output)

    def of_others(self, usage: Usage) -> int:
        """femto-USD of what is not counted in tokens, the request itself included."""
        if usage is NO_USAGE:
            return self.request
        audio_ms = max(usage.audio_ms, self.least_audio_ms) if usage.audio_ms else 0
        return (
            -(-audio_ms * self.audio_hour // _MS_PER_HOUR)
            + usage.input_characters * self.character
            + usage.web_searches * self.web_search
            + usage.file_searches * self.file_search
            + usage.images * self.image
            + self.request
        )

    def worst_input(self, reach: Reach) -> int:
        """The dearest that a token of the prompt can be."""
        worst = self.worst_text
        if reach.cache_1h:
            worst = max(worst, self.cache_write_1h)
        if reach.media:
            heard, seen = (self.input_audio, self.cached_audio), (self.input_image, self.cached_image)
            worst = max(worst, self.input_video, *heard, *seen)
        return worst

    @cached_property
    def worst_text(self) -> int:
        """The dearest that a token of a prompt of text can be. No cache discount is assumed, and all of it may be
        written to the cache where that is dearer."""
        return max(self.input, self.cached_input, self.cache_write)

    @cached_property
    def worst_output(self) -> int:
        """The dearest that a token of the answer can be: whether it draws is the model's choice."""
        return max(self.output, self.reasoning, self.output_audio, self.output_image)


_WIDER: Mapping[str, tuple[str, ...]] = {
    "cached_input": ("input",),
    "cache_write": ("input",),
    "cache_write_1h": ("cache_write", "input"),
    "input_audio": ("input",),
    "input_image": ("input",),
    "input_video": ("input",),
    "cached_audio": ("cached_input", "input_audio", "input"),
    "cached_image": ("cached_input", "input_image", "input"),
    "reasoning": ("output",),
    "output_audio": ("output",),
    "output_image": ("output",),
}
"""Of classes that may have no price of their own, whose price counts: the first that has one."""


def rates_of(prices: Mapping[str, int], above: int = 0) -> Rates:
    """Rates out of the prices that there are, by the names that Rates has for them."""
    filled = {
        name: next((prices[each] for each in (name, *wider) if each in prices), 0)
        for name, wider in _WIDER.items()
    }
    return Rates(**{**filled, **prices}, above=above)


class ModelPrice(msgspec.Struct, frozen=True, dict=True):
    """What one model costs and how much it can say.

    Attributes:
        model: its name in the catalogue, or the name or glob of the configuration; bounded in number,
            so that it can label a metric.
        max_output_tokens: the most it generates in one answer, where that is known.
        source: where the rates come from, for people.
        rates: ascending by `above`, the first from 0 on. The last that the input exceeds are in force,
            for all tokens of the call.
        service_tiers: the same for other tiers of service than the standard one, where they have prices.
        origins: where the price of each class comes from, and the output maximum, for people; classes that are
            not in it are charged as a wider one.
        is_configured: whether an operator has set it.
        is_stand_in: whether it was set to be that of another model, and nothing more: it is for a name that is no
            model's, behind which one or another may serve.
    """

    model: str
    max_output_tokens: int | None
    source: str
    rates: tuple[Rates, ...] = (Rates(),)
    service_tiers: Mapping[str, tuple[Rates, ...]] = {}
    origins: Mapping[str, str] = {}
    is_configured: bool = False
    is_stand_in: bool = False

    @cached_property
    def counts_tokens(self) -> bool:
        """False where it is by sound, characters or pictures alone: a call in tokens would be free."""
        rates = self.rates[0]
        return bool(rates.input or rates.output) or not (rates.audio_hour or rates.character or rates.image)

    def charges(self, usage: Usage) -> bool:
        """Whether this kind of use, in tokens or beside them, is what the model is billed by. Of one that is free, or
        billed by the request, any is."""
        rates = self.rates[0]
        in_tokens = usage.input_tokens or usage.output_tokens or not (rates.input or rates.output)
        if in_tokens and self.counts_tokens:
            return True
        return rates.of_others(usage) > rates.request

    def cost(self, usage: Usage, *, service_tier: str | None = None, round_up: bool = False) -> int:
        """nano-USD, rounded once: half-even, or up.

        Args:
            service_tier: the one that served the call; one without prices costs what the standard one does.
        """
        tiers = self.rates if service_tier is None else self._tier(service_tier)
        rates = tiers[0] if len(tiers) == 1 else _in_force(tiers, usage.input_tokens)
        nano, rest = divmod(rates.of(usage), _FEMTO_PER_NANO)
        if round_up:
            return nano + (rest > 0)
        return nano + (2 * rest > _FEMTO_PER_NANO or (2 * rest == _FEMTO_PER_NANO and nano % 2 == 1))

    def worst_cost(self, input_tokens: int, output_tokens: int, reach: Reach = ANYTHING) -> int:
        """nano-USD, rounded up: no usage within these tokens, and within `reach`, costs more."""
        fixed, output_femto = self.worst_rates(input_tokens, reach)
        return nano_from_femto(fixed + output_tokens * output_femto)

    def worst_rates(self, input_tokens: int, reach: Reach = ANYTHING) -> tuple[int, int]:
        """femto-USD: of the request with its whole input, and of each output token, at the worst.

        A smaller input may fall into another tier, so every one within reach is considered; a tier of service
        that was asked for may turn out to be the standard one, unless it is sure.
        """
        tiers = self.rates
        if reach.service_tier is not None:
            tiers = self._tier(reach.service_tier)
            if not reach.is_served and tiers is not self.rates:
                tiers += self.rates
        is_text = not (reach.media or reach.cache_1h)
        input_rate = others = output_rate = 0
        for rates in tiers:
            if rates.above < max(input_tokens, 1):
                input_rate = max(input_rate, rates.worst_text if is_text else rates.worst_input(reach))
                others = max(others, rates.of_others(reach.beside_tokens))
                output_rate = max(output_rate, rates.worst_output)
        return input_tokens * input_rate + others, output_rate

    def _tier(self, name: str) -> tuple[Rates, ...]:
        return self.service_tiers.get(name, self.rates)


def _in_force(tiers: tuple[Rates, ...], input_tokens: int) -> Rates:
    for rates in reversed(tiers):
        if input_tokens > rates.above:
            return rates
    return tiers[0]


def _shared_out(total: int, parts: Iterable[tuple[int, int]], rest_rate: int) -> int:
    """femto-USD of `total` tokens, of which each of `parts` has its own rate. Parts that are more than the whole
    are cut to it, the last ones first."""
    femto = 0
    for count, rate in parts:
        count = min(max(count, 0), total)
        total -= count
        femto += count * rate
    return femto + total * rest_rate


class FromDate(msgspec.Struct, frozen=True):
    """Holds from the start of a day on, UTC."""

    start: date

    def holds(self, moment: datetime) -> bool:
        return moment.date() >= self.start


class Daily(msgspec.Struct, frozen=True):
    """Holds in a part of each day, UTC, the end left out; it may span midnight."""

    start: time
    end: time

    def holds(self, moment: datetime) -> bool:
        now = moment.time()
        if self.end < self.start:
            return now >= self.start or now < self.end
        return self.start <= now < self.end


class PriceHistory(msgspec.Struct, frozen=True):
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


def femto(usd: Decimal) -> int:
    """USD to femto-USD; what is finer is rounded up."""
    return _whole(usd * 10**15)


def nano_from_femto(amount: int) -> int:
    """femto-USD to nano-USD, rounded up."""
    return -(-amount // _FEMTO_PER_NANO)


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))
