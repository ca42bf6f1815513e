"""Compile genai-prices' data (MIT, Pydantic) into src/govmiddleware/data/prices.json.

    python tools/compile_prices.py [DATE]

Run after upgrading the development dependency `genai-prices`. Kept: all rates that a `core.usage.Usage` has
figures for, those of other tiers of service too, by provider, with the rules that match model names.
Left out: prices that ended before DATE (default: today), variants by route or kind of search, models that are
priced by what a Usage does not have (pages, messages, citations, generated video), and prices of zero but for names
ending in `:free`, so that nothing is free by accident.

The form of the file is described in src/govmiddleware/core/catalogue.py, which reads it.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from genai_prices import types as source
from genai_prices.data import providers

TARGET = Path(__file__).parent.parent / "src/govmiddleware/data/prices.json"
RATES = {
    "i": "input_mtok",
    "c": "cache_read_mtok",
    "w": "cache_write_mtok",
    "h": "cache_write_1h_mtok",
    "o": "output_mtok",
    "t": "output_reasoning_mtok",
    "ia": "input_audio_mtok",
    "ii": "input_image_mtok",
    "iv": "input_video_mtok",
    "ca": "cache_audio_read_mtok",
    "ci": "cache_image_read_mtok",
    "oa": "output_audio_mtok",
    "oi": "output_image_mtok",
    "a": "audio_hours",
    "x": "input_mchars",
    "s": "web_searches_kcount",
    "f": "storage_searches_kcount",
    "r": "requests_kcount",
}
SAME_AS_OTHERS = {"input_audio_hours"}
"""Where a price has it, it equals `audio_hours`."""
BILLED_BY = {"i", "a", "x"}
"""A price has one of these at least."""
LEAST_AUDIO_MS = {"groq": {"whisper-large-v3": 10_000, "whisper-large-v3-turbo": 10_000}}
"""As `ModelInfo.calc_price` of genai-prices has it in its code (console.groq.com/docs/speech-to-text)."""
CLAUSES = {
    source.ClauseStartsWith: ("starts", "starts_with"),
    source.ClauseEndsWith: ("ends", "ends_with"),
    source.ClauseContains: ("has", "contains"),
    source.ClauseRegex: ("regex", "regex"),
}


def clause(rule: Any) -> Any:
    """A string stands for equality."""
    if rule is None:
        return None
    if isinstance(rule, source.ClauseEquals):
        return rule.equals.lower()
    if isinstance(rule, source.ClauseOr):
        return ["or", *map(clause, rule.or_)]
    if isinstance(rule, source.ClauseAnd):
        return ["and", *map(clause, rule.and_)]
    name, attribute = CLAUSES[type(rule)]
    text = getattr(rule, attribute)
    return [name, text if name == "regex" else text.lower()]


def number(value: Decimal) -> str:
    """USD with at most 9 places: the data holds some floats' tails."""
    text = f"{value:.9f}"
    return text.rstrip("0").rstrip(".")


def rates(price: Any) -> dict[str, Any] | None:
    """None where a part of the price would be lost."""
    named = {name: value for name, value in price.__dict__.items() if value is not None}
    if named.keys() - set(RATES.values()) - SAME_AS_OTHERS:
        return None
    assert named.get("input_audio_hours") in (None, named.get("audio_hours")), named
    found: dict[str, Any] = {}
    for short, name in RATES.items():
        value = named.get(name)
        if isinstance(value, source.TieredPrices):
            found[short] = [number(value.base), *([tier.start, number(tier.price)] for tier in value.tiers)]
        elif value is not None:
            found[short] = number(value)
    return found


def condition(constraint: Any) -> Any:
    if constraint is None:
        return None
    if isinstance(constraint, source.StartDateConstraint):
        return constraint.start_date.isoformat()
    start, end = (value.strftime("%H:%M:%S") for value in (constraint.start_time, constraint.end_time))
    assert constraint.start_time.utcoffset() == constraint.end_time.utcoffset() == datetime.timedelta(0)
    return [start, end]


def alternatives(model: Any, today: datetime.date) -> list[list[Any]]:
    """[condition, rates, rates that differ in other tiers of service] each; the last whose condition holds is
    in force, else the first."""
    prices = [] if isinstance(model.prices, source.ModelPrice) else model.prices
    constraints = [each.constraint for each in (*prices, *(model.price_variants or ()))]
    if any(isinstance(each, source.TimeOfDateConstraint) for each in constraints):
        assert not model.price_variants, model.id  # no model has both so far
        return [[condition(each.constraint), rates(each.prices), {}] for each in without_past(prices, today)]
    starts = {each.start_date for each in constraints if each is not None}
    return [
        [None if day == today else day.isoformat(), rates(model.get_prices(midnight(day))), tiers(model, day)]
        for day in sorted({today, *(start for start in starts if start > today)})
    ]


def without_past(prices: list[Any], today: datetime.date) -> list[Any]:
    """Nothing before the last price that holds from now on is ever reached."""
    for index in range(len(prices) - 1, -1, -1):
        constraint = prices[index].constraint
        begun = isinstance(constraint, source.StartDateConstraint) and constraint.start_date <= today
        if constraint is None or begun:
            return [source.ConditionalPrice(prices=prices[index].prices), *prices[index + 1 :]]
    return prices


def midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)


def tiers(model: Any, day: datetime.date) -> dict[str, dict[str, Any]]:
    """What differs from the standard, by the tier's name. Of several, the first counts for each rate."""
    found: dict[str, dict[str, Any]] = {}
    for variant in model.price_variants or ():
        name = tier_name(variant.when)
        different = rates(variant.prices)
        if name and different and (variant.constraint is None or variant.constraint.active(midnight(day))):
            found[name] = {**different, **found.get(name, {})}
    return found


def tier_name(when: dict[str, str]) -> str | None:
    """`flex`, `priority`, `batch`, `fast`; None for what is no tier of service."""
    match when:
        case {"service_tier": name} | {"processing": name} | {"speed": name} if len(when) == 1:
            return name
    return None


def is_priced(name: str, found: dict[str, Any] | None) -> bool:
    if not found or not found.keys() & BILLED_BY:
        return False
    return name.endswith(":free") or any(value != "0" for value in found.values())


def main() -> None:
    today = datetime.date.fromisoformat(sys.argv[1]) if len(sys.argv) > 1 else datetime.date.today()
    compiled = []
    for provider in providers:
        models = []
        for model in provider.models:
            found = alternatives(model, today)
            if all(is_priced(model.id, each) for _, each, _ in found):
                if least := LEAST_AUDIO_MS.get(provider.id, {}).get(model.id):
                    found = [[when, {**each, "least_audio_ms": least}, tiers] for when, each, tiers in found]
                plain = len(found) == 1 and not found[0][2]
                short: list[Any] = [model.id, found[0][1] if plain else found]
                match = clause(model.match)
                models.append(short if match == model.id.lower() else [*short, match])
        compiled.append(
            {
                "id": provider.id,
                "url": provider.api_pattern,
                "owns": clause(provider.model_match),
                "alias": clause(provider.provider_match),
                "fallback": provider.fallback_model_providers or [],
                "models": models,
            }
        )
    document = {
        "source": "genai-prices",
        "version": importlib.metadata.version("genai-prices"),
        "date": today.isoformat(),
        "licence": "MIT, Copyright (c) Pydantic Services Inc.",
        "providers": compiled,
    }
    TARGET.write_text(json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n", "utf-8")
    print(f"{TARGET}: {sum(len(each['models']) for each in compiled)} models, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
