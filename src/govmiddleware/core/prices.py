"""The book of prices: what is configured, over what is shipped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import translate

import msgspec
from msgspec.structs import astuple, replace

from govmiddleware.core.catalogue import shipped_catalogue
from govmiddleware.core.model_price import ModelPrice, PriceHistory, Rates, femto, rates_of
from govmiddleware.errors import ConfigurationError

__all__ = ["ConfiguredPrice", "ModelPrice", "PriceBook"]

STALE_DAYS = 120
"""Providers change prices some times a year."""

REMEMBERED_NAMES = 4096
"""How many names keep their answer. One that matches nothing is never kept, so that random names cost
time (some tens of microseconds) but no memory."""


class ConfiguredPrice(msgspec.Struct, frozen=True):
    """One entry of `[[prices]]`, in USD as written.

    Attributes:
        model: a name, or a glob; a bare `*` comes after the shipped data.
        cached_input_usd_per_mtok, cache_write_usd_per_mtok: the input's price where left out.
        cache_write_1h_usd_per_mtok: that of `cache_write_usd_per_mtok` where left out.
        image_usd: for each picture that is made and is not billed in tokens.
        audio_minute_usd: of sound that is billed by its length.
        same_as: a model of the shipped data, or one configured by name before this; what is left out
            here is as there.
    """

    model: str
    input_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    request_usd: Decimal | None = None
    image_usd: Decimal | None = None
    audio_minute_usd: Decimal | None = None
    max_output_tokens: int | None = None
    same_as: str | None = None


class PriceBook:
    """The prices of all models: configured ones by name or glob, the first that matches; then the
    shipped data; then a configured bare `*`. Without any, a call is refused.

    Attributes:
        version: of the data, for journal records: `genai-prices 0.2.3+1f2e3d4c`, where the part behind
            the plus identifies the configured prices.
        shipped_version, shipped_date: of the shipped data, and of the day that it is as of.
    """

    def __init__(self, configured: Sequence[ConfiguredPrice] = ()) -> None:
        """Raises ConfigurationError for an entry that cannot be used."""
        self._shipped = shipped_catalogue()
        self.shipped_version = self._shipped.version
        self.shipped_date = date.fromisoformat(self._shipped.date)
        self._found: dict[tuple[str, str | None], PriceHistory] = {}
        self._configured: list[tuple[re.Pattern[str], PriceHistory]] = []
        self._rest: PriceHistory | None = None
        by_name: dict[str, PriceHistory] = {}
        for index, price in enumerate(configured):
            _check(price, f"prices[{index}]")
            history = self._configure(price, f"prices[{index}]", by_name)
            name = price.model.lower()
            by_name.setdefault(name, history)
            if name == "*":
                self._rest = self._rest or history
            else:
                self._configured.append((re.compile(translate(name)), history))
        self.version = self.shipped_version + _fingerprint(configured)

    def find(self, model: str, at: datetime | None = None, *, url: str | None = None) -> ModelPrice | None:
        """The price of a model as clients name it, or None; at `url` where that is known, since providers
        that serve the same model have prices of their own.

        Where prices change with the date or the time of day, the one in force at `at` (now where left
        out) counts, for the whole call: ask once, at admission, and settle with the same.
        """
        found = self._found.get((model.lower(), url)) or self.history(model, url=url)
        if found is None:
            return None
        return found.prices[0][1] if len(found.prices) == 1 else found.at(at)

    def history(self, model: str, *, url: str | None = None) -> PriceHistory | None:
        """All that `find` chooses from."""
        key = (model.lower(), url)
        found = self._found.get(key)
        if found is None and (found := self._look_up(*key)) is not None:
            if len(self._found) >= REMEMBERED_NAMES:
                self._found.pop(next(iter(self._found)), None)  # the one that came first
            self._found[key] = found
        return found

    def stale(self, today: date | None = None) -> str | None:
        """What to say of shipped prices that may have changed since; None while they are fresh."""
        days = ((today or datetime.now(UTC).date()) - self.shipped_date).days
        if days <= STALE_DAYS:
            return None
        return (
            f"the shipped prices ({self.shipped_version}) are {days} days old: upgrade govmiddleware,"
            " or set what has changed in [[prices]]"
        )

    def near(self, model: str) -> list[str]:
        """Names with a price that are much like one without."""
        return self._shipped.near(model)

    def _look_up(self, name: str, url: str | None) -> PriceHistory | None:
        for pattern, history in self._configured:
            if pattern.match(name):
                return history
        return self._shipped.find(name, url) or self._rest

    def _configure(self, price: ConfiguredPrice, key: str, by_name: dict[str, PriceHistory]) -> PriceHistory:
        """The entry with all that it takes from `same_as`."""
        if price.same_as is None:
            return PriceHistory(((None, _apply(price, key, ModelPrice(price.model, None, "configured"))),))
        base = by_name.get(price.same_as.lower()) or self._shipped.find(price.same_as)
        if base is None:
            raise ConfigurationError(f"{key}.same_as", price.same_as, "a model whose price is known")
        return PriceHistory(tuple((condition, _apply(price, key, found)) for condition, found in base.prices))


_UNITS = {
    "input_usd_per_mtok": ("input", Decimal("1e-6")),
    "output_usd_per_mtok": ("output", Decimal("1e-6")),
    "cached_input_usd_per_mtok": ("cached_input", Decimal("1e-6")),
    "cache_write_usd_per_mtok": ("cache_write", Decimal("1e-6")),
    "cache_write_1h_usd_per_mtok": ("cache_write_1h", Decimal("1e-6")),
    "request_usd": ("request", Decimal(1)),
    "image_usd": ("image", Decimal(1)),
    "audio_minute_usd": ("audio_hour", Decimal(60)),
}
"""The class of `Rates` that each field sets, and its unit in that of the class."""


def _apply(price: ConfiguredPrice, key: str, base: ModelPrice) -> ModelPrice:
    """`base` with what is written at `key`, which counts in every tier."""
    written = {
        name: femto(usd * unit)
        for field_name, (name, unit) in _UNITS.items()
        if (usd := getattr(price, field_name)) is not None
    }
    if price.same_as is None:
        rates: tuple[Rates, ...] = (rates_of(written),)
    else:
        rates = tuple(replace(each, **written) for each in base.rates)
    origins = {**base.origins, **dict.fromkeys(written, f"{key} of the configuration")}
    maximum = base.max_output_tokens
    if price.max_output_tokens is not None:
        maximum = price.max_output_tokens
        origins["max_output_tokens"] = f"{key} of the configuration"
    return ModelPrice(
        model=price.model,
        max_output_tokens=maximum,
        source="configured" if price.same_as is None else f"configured, same as {price.same_as}",
        rates=rates,
        origins=origins,
        is_configured=True,
        is_stand_in=price.same_as is not None
        and not written
        and (base.is_stand_in or not base.is_configured),
        service_tiers={
            tier: tuple(replace(each, **written) for each in rates)
            for tier, rates in base.service_tiers.items()
        },
    )


def _check(price: ConfiguredPrice, key: str) -> None:
    for name in price.__struct_fields__:
        value = getattr(price, name)
        if isinstance(value, Decimal) and not (value.is_finite() and value >= 0):
            raise ConfigurationError(f"{key}.{name}", value, "an amount of USD, 0 or more")
    if price.max_output_tokens is not None and price.max_output_tokens < 1:
        raise ConfigurationError(f"{key}.max_output_tokens", price.max_output_tokens, "1 or more")
    by_unit = (price.request_usd, price.image_usd, price.audio_minute_usd)
    if price.same_as is None and by_unit == (None, None, None):
        # Never free by accident: a price that was forgotten is not 0.
        for name in ("input_usd_per_mtok", "output_usd_per_mtok"):
            if getattr(price, name) is None:
                raise ConfigurationError(f"{key}.{name}", None, "a price (0 where there is none), or same_as")


def _fingerprint(configured: Sequence[ConfiguredPrice]) -> str:
    if not configured:
        return ""
    text = "\n".join(repr(tuple(str(value) for value in astuple(price))) for price in configured)
    return "+" + hashlib.sha256(text.encode()).hexdigest()[:8]
