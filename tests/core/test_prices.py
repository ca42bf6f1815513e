"""What calls cost: exact integers, the same as genai-prices computes, and bounds that hold."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import genai_prices
import pytest
from genai_prices import types as reference
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.catalogue import _prices_of, shipped_catalogue
from govmiddleware.core.model_price import Daily, FromDate, ModelPrice, PriceHistory, Rates
from govmiddleware.core.prices import REMEMBERED_NAMES, ConfiguredPrice, PriceBook
from govmiddleware.core.usage import Usage
from govmiddleware.errors import ConfigurationError

TOKENS = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"}
OTHER_UNITS_THAT_USAGE_LACKS = {"output_reasoning_mtok", "output_citation_mtok"}
NOW = datetime.now(UTC)


@cache
def book() -> PriceBook:
    return PriceBook()


def own_price(provider: Any, model: Any) -> ModelPrice | None:
    """Our price of one entry of the data, whatever its name would find."""
    catalogue = shipped_catalogue()
    for entry in catalogue._providers[provider.id].models:
        if entry[0] == model.id:
            return _prices_of(catalogue._providers[provider.id], entry).at(NOW)
    return None


def usages() -> list[Usage]:
    dice = random.Random(7)
    found = [Usage(), Usage(1), Usage(0, 0, 0, 1), Usage(10, 10, 0, 3), Usage(10, 0, 10, 3)]
    for most in (50, 5_000, 150_000, 250_000, 300_000, 2_000_000):
        total = dice.randint(1, most)
        cached = dice.randint(0, total)
        found.append(Usage(total, cached, dice.randint(0, total - cached), dice.randint(0, most)))
    return found


def test_costs_equal_those_of_genai_prices_for_every_model() -> None:
    compared = 0
    for provider in providers:
        for model in provider.models:
            price = own_price(provider, model)
            standard = model.get_prices(NOW)
            units = {name for name, value in standard.__dict__.items() if value is not None}
            if price is None or units & OTHER_UNITS_THAT_USAGE_LACKS or not units & TOKENS:
                continue
            for usage in usages():
                tokens = {
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "cache_read_tokens": usage.cached_tokens,
                    "cache_write_tokens": usage.cache_write_tokens,
                }
                expected = model.calc_price(reference.Usage(**tokens), provider).total_price * 10**9
                difference = abs(price.cost(usage) - expected)
                # Half a nano of rounding; beyond it the tails of floats in the data (1e-17 a token).
                assert difference <= Decimal("0.5") + expected * Decimal("1e-9"), (
                    provider.id,
                    model.id,
                    usage,
                )
                compared += 1
    assert compared > 20_000


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-5-mini", "o3-mini", "claude-sonnet-4-5", "gemini-2.5-pro", "gpt-5.6-sol"]
)
def test_a_well_known_name_costs_what_genai_prices_says(model: str) -> None:
    price = book().find(model)
    assert price is not None
    for total in (1_000, 201_000, 400_000):
        expected = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=total, cache_read_tokens=700, output_tokens=345), model
        ).total_price
        assert price.cost(Usage(total, 700, 0, 345)) == int((expected * 10**9).to_integral_value())


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("gpt-4o", "openai: gpt-4o"),
        ("GPT-4o", "openai: gpt-4o"),
        ("openai/gpt-4o", "openai: gpt-4o"),
        ("openai:gpt-4o", "openai: gpt-4o"),
        ("azure/gpt-4o", "openai: gpt-4o"),
        ("gpt-4o-2024-08-06", "openai: gpt-4o"),
        ("gpt-5.2-20251211", "openai: gpt-5.2"),
        ("text-embedding-3-small", "openai: text-embedding-3-small"),
        ("anthropic/claude-sonnet-4.5", "anthropic: claude-sonnet-4-5"),
        ("gemini/gemini-2.5-flash", "google: gemini-2.5-flash"),
        ("vertex_ai/gemini-2.5-flash", "google: gemini-2.5-flash"),
        ("groq/llama-3.3-70b-versatile", "groq: llama-3.3-70b-versatile"),
        ("llama-3.3-70b-versatile", "groq: llama-3.3-70b-versatile"),
        ("openrouter/openai/gpt-4o", "openrouter: openai/gpt-4o"),
        ("x-ai/grok-4", "x-ai: grok-4-0709"),
    ],
)
def test_a_name_finds_its_first_party_price_however_it_is_prefixed(name: str, source: str) -> None:
    price = book().find(name)
    assert price is not None
    assert price.source == source


@pytest.mark.parametrize(
    "name",
    ["", "gpt", "no-such-model", "openai/no-such-model", "/", ":", "openrouter/auto", "*", "[", "\ud800"],
)
def test_an_unknown_name_has_no_price(name: str) -> None:
    assert book().find(name) is None


def test_of_several_hosts_the_dearest_counts() -> None:
    name = "meta-llama/llama-3.3-70b-instruct"
    price = book().find(name)
    assert price is not None
    for provider in providers:
        for model in provider.models:
            if model.id.lower() == name and (own := own_price(provider, model)):
                assert price.worst_cost(3_000, 1_000) >= own.worst_cost(3_000, 1_000)


def test_no_shipped_price_is_zero_by_accident() -> None:
    catalogue = shipped_catalogue()
    for provider in catalogue._providers.values():
        for model in provider.models:
            price = own_price(provider, type("Model", (), {"id": model[0]}))
            assert price is not None
            is_free = price.counts_tokens and not price.worst_cost(1_000, 1_000)
            assert not is_free or model[0].endswith(":free"), model[0]


def test_known_output_limits_come_with_the_price() -> None:
    for name, limit in [("gpt-4o", 16384), ("openai/gpt-4o-mini", 16384), ("claude-sonnet-4-5", 64000)]:
        price = book().find(name)
        assert price is not None
        assert price.max_output_tokens == limit


amounts = st.integers(0, 3_000_000)
rates = st.lists(
    st.tuples(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12)),
    min_size=1,
    max_size=3,
).map(lambda tiers: tuple(Rates(*tier, above=place * 100_000) for place, tier in enumerate(tiers)))


@given(rates, st.integers(0, 10**15), amounts, amounts, st.data())
def test_no_usage_within_a_bound_costs_more_than_the_bound(
    tiers: tuple[Rates, ...], request_femto: int, most_input: int, most_output: int, data: st.DataObject
) -> None:
    price = ModelPrice("m", None, "test", tiers, request_femto)
    total = data.draw(st.integers(0, most_input))
    cached = data.draw(st.integers(0, total))
    written = data.draw(st.integers(0, total))
    usage = Usage(total, cached, written, data.draw(st.integers(0, most_output)))
    assert price.cost(usage, round_up=True) <= price.worst_cost(most_input, most_output)


@given(rates, amounts, amounts)
def test_rounding_happens_once_half_even_or_up(tiers: tuple[Rates, ...], tokens: int, output: int) -> None:
    price = ModelPrice("m", None, "test", tiers)
    usage = Usage(tokens, 0, 0, output)
    in_force = [tier for tier in tiers if tier.above < tokens] or [tiers[0]]
    exact = Decimal(tokens * in_force[-1].input + output * in_force[-1].output) / 10**6
    assert price.cost(usage) == int(exact.to_integral_value())
    assert price.cost(usage, round_up=True) == int(exact.to_integral_value("ROUND_CEILING"))


def test_a_tier_begins_above_its_threshold() -> None:
    price = ModelPrice("m", None, "test", (Rates(10**6), Rates(2 * 10**6, above=200)))
    assert price.cost(Usage(200)) == 200
    assert price.cost(Usage(201)) == 402


def test_prices_change_with_the_date_and_the_time_of_day() -> None:
    base, later, peak = (ModelPrice(name, None, "test") for name in ("base", "later", "peak"))
    history = PriceHistory(
        (
            (None, base),
            (FromDate(datetime(2026, 8, 17).date()), later),
            (Daily(datetime(1, 1, 1, 23).time(), datetime(1, 1, 1, 4).time()), peak),
        )
    )
    assert history.at(datetime(2026, 8, 16, 22, 59, tzinfo=UTC)) is base
    assert history.at(datetime(2026, 8, 16, 23, 0, tzinfo=UTC)) is peak
    assert history.at(datetime(2026, 8, 17, 3, 59, tzinfo=UTC)) is peak
    assert history.at(datetime(2026, 8, 17, 4, 0, tzinfo=UTC)) is later


def test_deepseeks_peak_hours_are_those_of_genai_prices() -> None:
    for hour in range(24):
        moment = datetime(2027, 1, 4, hour, 30, tzinfo=UTC)
        price = book().find("deepseek-v4-pro", moment)
        expected = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=10**6), "deepseek-v4-pro", genai_request_timestamp=moment
        )
        assert price is not None
        assert price.cost(Usage(10**6)) == expected.total_price * 10**9


def test_configured_prices_come_first_by_name_or_glob_and_a_bare_star_comes_last() -> None:
    prices = [
        ConfiguredPrice("*", Decimal(9), Decimal(9)),
        ConfiguredPrice("my-*", Decimal(1), Decimal(2), max_output_tokens=77),
        ConfiguredPrice("my-model", Decimal(5), Decimal(5)),
        ConfiguredPrice("GPT-4o", Decimal("0.001"), Decimal(0)),
    ]
    configured = PriceBook(prices)
    found = {name: configured.find(name) for name in ("my-model", "MY-x", "gpt-4o", "gpt-4.1", "unheard-of")}
    assert {name: price.cost(Usage(10**6)) for name, price in found.items() if price} == {
        "my-model": 10**9,
        "MY-x": 10**9,
        "gpt-4o": 10**6,
        "gpt-4.1": 2 * 10**9,
        "unheard-of": 9 * 10**9,
    }
    assert [price.model for price in found.values() if price] == ["my-*", "my-*", "GPT-4o", "gpt-4.1", "*"]
    mine = found["my-model"]
    assert mine is not None
    assert mine.max_output_tokens == 77


def test_same_as_takes_what_is_left_out_from_another_model() -> None:
    prices = [
        ConfiguredPrice("deployment-1", same_as="gpt-5.6-sol"),
        ConfiguredPrice(
            "deployment-2", same_as="deployment-1", output_usd_per_mtok=Decimal(1), max_output_tokens=5
        ),
    ]
    configured = PriceBook(prices)
    original, first, second = (
        configured.find(name) for name in ("gpt-5.6-sol", "deployment-1", "deployment-2")
    )
    assert original is not None
    assert first is not None
    assert second is not None
    assert first.model == "deployment-1"
    assert first.rates == original.rates
    assert first.max_output_tokens == original.max_output_tokens
    assert second.cost(Usage(0, 0, 0, 10**6)) == 10**9
    assert second.cost(Usage(300_000, 100_000, 0)) == original.cost(Usage(300_000, 100_000, 0))
    assert second.max_output_tokens == 5


@pytest.mark.parametrize(
    ("price", "key"),
    [
        (ConfiguredPrice("a", same_as="no-such-model"), "prices[0].same_as"),
        (ConfiguredPrice("a"), "prices[0].input_usd_per_mtok"),
        (ConfiguredPrice("a", Decimal(1)), "prices[0].output_usd_per_mtok"),
        (ConfiguredPrice("a", Decimal(-1), Decimal(1)), "prices[0].input_usd_per_mtok"),
        (ConfiguredPrice("a", Decimal("NaN"), Decimal(1)), "prices[0].input_usd_per_mtok"),
        (ConfiguredPrice("a", Decimal(1), Decimal(1), max_output_tokens=0), "prices[0].max_output_tokens"),
    ],
)
def test_a_price_that_cannot_be_used_is_refused_by_its_key(price: ConfiguredPrice, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PriceBook([price])
    assert caught.value.key == key


def test_a_price_for_each_request_needs_no_others() -> None:
    price = PriceBook([ConfiguredPrice("a", request_usd=Decimal("0.01"))]).find("a")
    assert price is not None
    assert price.cost(Usage(5, 0, 0, 5)) == price.worst_cost(5, 5) == 10_000_000


def test_the_version_tells_configured_prices_apart() -> None:
    one = PriceBook([ConfiguredPrice("a", Decimal(1), Decimal(1))])
    two = PriceBook([ConfiguredPrice("a", Decimal(1), Decimal(2))])
    assert book().version == f"genai-prices {shipped_catalogue().version.split()[1]}"
    assert one.version != two.version
    assert one.version.startswith(book().version + "+")


def test_random_names_take_no_memory() -> None:
    own = PriceBook([ConfiguredPrice("known-*", Decimal(1), Decimal(1))])
    for number in range(REMEMBERED_NAMES + 100):
        assert own.find(f"known-{number}") is not None
        assert own.find(f"unknown {number}") is None
    assert len(own._found) == REMEMBERED_NAMES
    assert f"known-{REMEMBERED_NAMES + 99}" in own._found
