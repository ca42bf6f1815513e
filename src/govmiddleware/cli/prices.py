"""`prices`: what a model costs here, and where each rate comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from cyclopts import App, Parameter

from govmiddleware.cli.common import AsJson, Config, print_json, print_table
from govmiddleware.core.model_price import Daily, FromDate, ModelPrice, PriceHistory, Rates
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.providers import provider_for
from govmiddleware.settings import load

app = App(name="prices", help="Prices: show.")

_PER = {
    "audio_hour": (1, "hour of sound"),
    "character": (10**6, "1M characters"),
    "web_search": (1000, "1000 searches"),
    "file_search": (1000, "1000 searches"),
    "image": (1, "picture"),
    "request": (1, "request"),
}
_TOKENS = (10**6, "1M tokens")
_NO_RATES = {"above", "least_audio_ms"}
_COLUMNS = ("class", "usd", "per", "above_input_tokens", "service_tier", "when", "in_force", "source")


@app.command
def show(
    model: Annotated[str, Parameter(help="As clients name it.")],
    /,
    *,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Explain what a model costs: each rate, and where it comes from. Exit code 1 for one without a price."""
    settings = load(config)
    book = PriceBook(tuple(price.configured() for price in settings.prices))
    upstream = provider_for(model, [each.provider() for each in settings.all_upstreams])
    found = book.history(model, url=upstream.url if upstream else None)
    if found is None:
        return _unknown(model, book, as_json=json)
    now = datetime.now(UTC)
    price = found.at(now)
    told = {
        "model": model,
        "upstream": upstream and upstream.name,
        "priced_as": price.source,
        "price_version": book.version,
        "shipped_data": {"version": book.shipped_version, "date": book.shipped_date.isoformat()},
        "max_output_tokens": {
            "tokens": price.max_output_tokens or settings.default_max_output_tokens,
            "source": price.origins.get("max_output_tokens")
            if price.max_output_tokens
            else "default_max_output_tokens, for it is not known",
        },
        "rates": list(_rows(found, now)),
    }
    if json:
        print_json(told)
        return 0
    print("{model} at upstream {upstream}: priced as {priced_as} ({price_version})".format(**told))
    print("at most {tokens} output tokens: {source}".format(**told["max_output_tokens"]))  # type: ignore[arg-type]
    print()
    rows = list(_rows(found, now))
    print_table(rows, [name for name in _COLUMNS if any(row[name] is not None for row in rows)])
    return 0


def _unknown(model: str, book: PriceBook, *, as_json: bool) -> int:
    near = book.near(model)
    if as_json:
        print_json({"model": model, "rates": None, "near": near})
        return 1
    print(
        f"govmiddleware: {model} has no price: its calls are refused (model_not_priced)."
        ' [[prices]] with its name, or with model = "*" for all the rest, gives it one.',
        file=sys.stderr,
    )
    if near:
        print(f"govmiddleware: near it are {', '.join(near)}", file=sys.stderr)
    return 1


def _rows(history: PriceHistory, now: datetime) -> Iterator[dict[str, object]]:
    """One for each rate that has a price of its own, at each time and in each tier; of what is not counted in tokens
    one, where tiers do not differ in it."""
    in_force = history.at(now)
    changes = len(history.prices) > 1
    for condition, price in history.prices:
        for tier, rates in (("standard", price.rates), *price.service_tiers.items()):
            for each in rates:
                for name, usd, per in _priced(price, each):
                    if name in _PER and _is_repeated(price, each, name):
                        continue
                    yield {
                        "class": name,
                        "usd": usd,
                        "per": per,
                        "above_input_tokens": each.above or None,
                        "service_tier": tier if price.service_tiers else None,
                        "when": _when(condition) if changes else None,
                        "in_force": ("yes" if price is in_force else "no") if changes else None,
                        "source": price.origins.get(name),
                    }


def _is_repeated(price: ModelPrice, rates: Rates, name: str) -> bool:
    first = price.rates[0]
    return rates is not first and getattr(rates, name) == getattr(first, name)


def _priced(price: ModelPrice, rates: Rates) -> Iterator[tuple[str, str, str]]:
    """Class, USD and for how many, of those with a price."""
    for name in Rates.__struct_fields__:
        if name not in _NO_RATES and name in price.origins:
            units, per = _PER.get(name, _TOKENS)
            usd = Decimal(getattr(rates, name) * units).scaleb(-15).normalize()
            yield name, f"{usd:f}", per


def _when(condition: FromDate | Daily | None) -> str:
    match condition:
        case FromDate(start):
            return f"from {start}"
        case Daily(start, end):
            return f"{start:%H:%M} to {end:%H:%M} UTC"
    return "else"
