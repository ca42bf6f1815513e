"""The shipped prices and output limits, and how a model's name finds them.

`data/prices.json` (by tools/compile_prices.py) lists providers, each with `url`, a pattern of its addresses,
`owns` and `alias`, rules on names of models and on names of the provider, and `models`:
`[id, prices, match?]`. A rule is a string
(equality) or `[starts | ends | has | regex, text]` or `[or | and, rule, ...]`; without `match` a model
matches its id. Prices are one object of rates or a list of `[condition, rates, tiers]`, where `tiers` has the
rates that differ in other tiers of service, by their names. Rates have the keys of `_KEYS`, in USD for what
stands there, each a number's text or `[text, [above, text], ...]` in tiers by input tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import msgspec

from govmiddleware.core.model_price import (
    Daily,
    FromDate,
    ModelPrice,
    PriceHistory,
    Rates,
    femto,
    rates_of,
)

_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_BEDROCK = re.compile(r"(?:(?:us|eu|au|jp|apac|us-gov|global)\.)?[a-z0-9]+\.[a-z]")
_SPELLINGS = {"fireworks_ai": "fireworks", "azure_ai": "azure", "z-ai": "zai"}
"""LiteLLM's and OpenRouter's names of providers that the data's own rules do not know."""


_MILLION, _THOUSAND = 10**6, 10**3
_KEYS = {
    "i": ("input", _MILLION),
    "c": ("cached_input", _MILLION),
    "w": ("cache_write", _MILLION),
    "h": ("cache_write_1h", _MILLION),
    "o": ("output", _MILLION),
    "t": ("reasoning", _MILLION),
    "ia": ("input_audio", _MILLION),
    "ii": ("input_image", _MILLION),
    "iv": ("input_video", _MILLION),
    "ca": ("cached_audio", _MILLION),
    "ci": ("cached_image", _MILLION),
    "oa": ("output_audio", _MILLION),
    "oi": ("output_image", _MILLION),
    "a": ("audio_hour", 1),
    "x": ("character", _MILLION),
    "s": ("web_search", _THOUSAND),
    "f": ("file_search", _THOUSAND),
    "r": ("request", _THOUSAND),
}
"""The classes of `Rates`, and of how many units the file says the price."""


class _Provider(msgspec.Struct, dict=True):
    id: str
    url: str
    owns: Any
    alias: Any
    fallback: list[str]
    models: list[list[Any]]

    @cached_property
    def by_name(self) -> dict[str, int]:
        """Exact names: the place of the first model that has each."""
        places: dict[str, int] = {}
        for place, model in enumerate(self.models):
            for name in _exact_names(_rule_of(model)):
                places.setdefault(name, place)
        return places

    @cached_property
    def by_rule(self) -> list[tuple[int, Any]]:
        """Those rules that are more than a choice of names."""
        rules = ((place, _rule_of(model)) for place, model in enumerate(self.models))
        return [(place, rule) for place, rule in rules if not _is_exact(rule)]

    def model(self, name: str) -> list[Any] | None:
        """The first model that matches."""
        found = self.by_name.get(name, len(self.models))
        for place, rule in self.by_rule:
            if place >= found:
                break
            if _matches(rule, name):
                return self.models[place]
        return self.models[found] if found < len(self.models) else None


class _Prices(msgspec.Struct):
    source: str
    version: str
    date: str
    providers: list[_Provider]


class _Limits(msgspec.Struct):
    source: str
    version: str
    date: str
    limits: dict[str, list[str]]


class Catalogue:
    """Finds prices by name, as follows; the first that answers counts.

    0. Where the address is known that the call goes to, and whose it is: that provider's, by its rules.
    1. `PROVIDER/name` and `PROVIDER:name`: that provider's model, by its rules (which know dated
       snapshots and aliases), or one of another provider that it resells.
    2. Names in Bedrock's form (`us.anthropic.claude-...`): Bedrock's.
    3. The first-party provider whose models have such names (`gpt-`, `claude`), by its rules.
    4. The exact name at any provider: at a first-party one, else at the dearest host, since who serves
       it is not known. Names of OpenRouter's variants (`org/name:free`) are tried so first.

    Dates are tried as written and as `-2025-01-31` where they are compact.
    """

    def __init__(self, prices: bytes, limits: bytes) -> None:
        document = msgspec.json.decode(prices, type=_Prices)
        self.version = f"{document.source} {document.version}"
        self.date = document.date
        self._providers = {provider.id: provider for provider in document.providers}
        maxima = msgspec.json.decode(limits, type=_Limits)
        self.limits_version = f"{maxima.source} {maxima.version}"
        self.limits_date = maxima.date
        self._limits = {name: int(limit) for limit, names in maxima.limits.items() for name in names}

    def find(self, name: str, url: str | None = None) -> PriceHistory | None:
        """The prices of a model, or None. Any spelling of case is fine.

        Args:
            url: of the upstream that is called.
        """
        name = name.lower()
        spellings = tuple(dict.fromkeys((name, _COMPACT_DATE.sub(r"-\1-\2-\3", name))))
        seller = self._seller_at(url) if url else None
        found = next(filter(None, (self._model_of(seller, each) for each in spellings)), None)
        found = found or next(filter(None, map(self._find, spellings)), None)
        return None if found is None else self._history(name, *found)

    def near(self, name: str, count: int = 5) -> list[str]:
        """Names that are much like one that has no price, the nearest first."""
        names = {each for provider in self._providers.values() for each in provider.by_name}
        return get_close_matches(name.lower().rpartition("/")[2], names, count)

    def _seller_at(self, url: str) -> _Provider | None:
        return next((each for each in self._providers.values() if re.match(each.url, url)), None)

    def _find(self, name: str) -> tuple[_Provider, list[Any]] | None:
        prefix, separator, rest = _split(name)
        if separator == "/" and ":" in rest and (found := self._exact(name)):
            return found
        if separator:
            if prefix == "ft":  # OpenAI's fine-tuned models
                return self._model_of(self._providers["openai"], name)
            if found := self._model_of(self._provider(prefix), rest):
                return found
        if _BEDROCK.match(name) and (found := self._model_of(self._providers["aws"], name)):
            return found
        for provider in self._providers.values():
            if provider.owns is not None and _matches(provider.owns, name):
                if found := self._model_of(provider, name):
                    return found
                break
        return self._exact(name)

    def _provider(self, prefix: str) -> _Provider | None:
        prefix = _SPELLINGS.get(prefix, prefix)
        if prefix in self._providers:
            return self._providers[prefix]
        for provider in self._providers.values():
            if provider.alias is not None and _matches(provider.alias, prefix):
                return provider
        return None

    def _model_of(self, provider: _Provider | None, name: str) -> tuple[_Provider, list[Any]] | None:
        if provider is None:
            return None
        for seller in (provider, *(self._providers[other] for other in provider.fallback)):
            if model := seller.model(name):
                return seller, model
        return None

    def _exact(self, name: str) -> tuple[_Provider, list[Any]] | None:
        found = [
            (each, each.models[each.by_name[name]])
            for each in self._providers.values()
            if name in each.by_name
        ]
        first_party = [(provider, model) for provider, model in found if provider.owns is not None]
        return max(first_party or found, key=lambda one: _prices_of(*one).dearest, default=None)

    def _history(self, name: str, provider: _Provider, model: list[Any]) -> PriceHistory:
        limit = self._output_limit(name, provider.id, model[0].lower())
        return _prices_of(provider, model, limit, self._origins(provider, model))

    def _origins(self, provider: _Provider, model: list[Any]) -> dict[str, str]:
        shipped = f"{provider.id}: {model[0]}, {self.version} of {self.date}"
        alternatives = [model[1]] if isinstance(model[1], dict) else [rates for _, rates, _ in model[1]]
        classes = {_KEYS[key][0] for rates in alternatives for key in rates if key in _KEYS}
        maximum = {"max_output_tokens": f"{self.limits_version} of {self.limits_date}"}
        return {**dict.fromkeys(classes, shipped), **maximum}

    def _output_limit(self, name: str, provider: str, model: str) -> int | None:
        """The largest that is known under any of the model's names: this bounds what a call may cost."""
        names = {each for full in (name, f"{provider}/{model}") for each in _without_prefixes(full)}
        return max((self._limits[each] for each in names if each in self._limits), default=None)


@cache
def shipped_catalogue() -> Catalogue:
    """The package's own data, read once for each process."""
    data = files("govmiddleware") / "data"
    prices, limits = (data / name for name in ("prices.json", "output_limits.json"))
    return Catalogue(prices.read_bytes(), limits.read_bytes())


def _without_prefixes(name: str) -> Iterator[str]:
    """`a/b/c`, `b/c` and `c`."""
    while name:
        yield name
        name = name.partition("/")[2]


def _split(name: str) -> tuple[str, str, str]:
    found = re.search("[/:]", name)
    return (name[: found.start()], found[0], name[found.end() :]) if found else (name, "", "")


def _rule_of(model: list[Any]) -> Any:
    return model[2] if len(model) > 2 else model[0].lower()


def _matches(rule: Any, name: str) -> bool:
    if isinstance(rule, str):
        return rule == name
    match rule:
        case ["starts", text]:
            return name.startswith(text)
        case ["ends", text]:
            return name.endswith(text)
        case ["has", text]:
            return text in name
        case ["regex", pattern]:
            return re.search(pattern, name) is not None
        case ["or", *rules]:
            return any(_matches(each, name) for each in rules)
        case ["and", *rules]:
            return all(_matches(each, name) for each in rules)
    raise ValueError(f"unknown rule {rule!r}")


def _is_exact(rule: Any) -> bool:
    return isinstance(rule, str) or (rule[0] == "or" and all(map(_is_exact, rule[1:])))


def _exact_names(rule: Any) -> Iterator[str]:
    if isinstance(rule, str):
        yield rule
    elif rule[0] == "or":
        for each in rule[1:]:
            yield from _exact_names(each)


def _prices_of(
    provider: _Provider,
    model: list[Any],
    max_output_tokens: int | None = None,
    origins: Mapping[str, str] | None = None,
) -> PriceHistory:
    name, prices = model[0], model[1]
    alternatives: list[list[Any]] = [[None, prices, {}]] if isinstance(prices, dict) else prices
    return PriceHistory(
        tuple(
            (
                _condition(condition),
                ModelPrice(
                    name,
                    max_output_tokens,
                    f"{provider.id}: {name}",
                    rates=_rates(found),
                    origins=origins or {},
                    service_tiers={tier: _rates({**found, **different}) for tier, different in tiers.items()},
                ),
            )
            for condition, found, tiers in alternatives
        )
    )


def _condition(written: Any) -> FromDate | Daily | None:
    if written is None:
        return None
    if isinstance(written, str):
        return FromDate(date.fromisoformat(written))
    return Daily(*map(time.fromisoformat, written))


def _rates(written: dict[str, Any]) -> tuple[Rates, ...]:
    """One for each tier that any rate has."""
    starts = {0, *(tier[0] for rate in written.values() if isinstance(rate, list) for tier in rate[1:])}

    def price(key: str, above: int) -> int:
        value = written[key]
        if isinstance(value, list):
            base, *tiers = value
            value = ([base, *(price for start, price in tiers if start <= above)])[-1]
        return femto(Decimal(value) / _KEYS[key][1])

    least_audio_ms = written.get("least_audio_ms", 0)
    keys = [key for key in written if key in _KEYS]
    return tuple(
        rates_of(
            {**{_KEYS[key][0]: price(key, above) for key in keys}, "least_audio_ms": least_audio_ms}, above
        )
        for above in sorted(starts)
    )
