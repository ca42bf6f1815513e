"""Compile genai-prices' data (MIT, Pydantic) into src/govmiddleware/data/prices.json.

    python tools/compile_prices.py [DATE]

Run after upgrading the development dependency `genai-prices`. Kept: what a text call can cost (input,
cached input, cache write, output, request), by provider, with the rules that match model names.
Left out: prices that ended before DATE (default: today), models without a price for input tokens, and
prices of zero but for names ending in `:free`, so that nothing is free by accident.

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
    "o": "output_mtok",
    "r": "requests_kcount",
}
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


def rates(price: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for short, name in RATES.items():
        value = getattr(price, name)
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


def alternatives(prices: Any, today: datetime.date) -> list[list[Any]]:
    """[condition, rates] each; the last whose condition holds is in force, else the first."""
    if isinstance(prices, source.ModelPrice):
        return [[None, rates(prices)]]
    pairs = [(price.constraint, rates(price.prices)) for price in prices]
    for index in range(len(pairs) - 1, -1, -1):
        constraint = pairs[index][0]
        begun = isinstance(constraint, source.StartDateConstraint) and constraint.start_date <= today
        if constraint is None or begun:  # holds from now on: nothing before it is ever reached
            pairs = [(None, pairs[index][1]), *pairs[index + 1 :]]
            break
    return [[condition(constraint), found] for constraint, found in pairs]


def is_priced(name: str, found: dict[str, Any]) -> bool:
    return "i" in found and (name.endswith(":free") or any(value != "0" for value in found.values()))


def main() -> None:
    today = datetime.date.fromisoformat(sys.argv[1]) if len(sys.argv) > 1 else datetime.date.today()
    compiled = []
    for provider in providers:
        models = []
        for model in provider.models:
            found = alternatives(model.prices, today)
            if all(is_priced(model.id, each) for _, each in found):
                match = clause(model.match)
                short: list[Any] = [model.id, found[0][1] if len(found) == 1 else found]
                models.append(short if match == model.id.lower() else [*short, match])
        compiled.append(
            {
                "id": provider.id,
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
