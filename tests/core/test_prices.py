"""What calls cost: exact integers, the same as genai-prices computes, and bounds that hold."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields
from tests.core.genai import in_their_terms

from govmiddleware.core.catalogue import _prices_of, shipped_catalogue
from govmiddleware.core.model_price import Daily, FromDate, ModelPrice, PriceHistory, Rates
from govmiddleware.core.prices import REMEMBERED_NAMES, STALE_DAYS, ConfiguredPrice, PriceBook
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.errors import ConfigurationError

TIERS = {"flex": "service_tier", "priority": "service_tier", "batch": "processing", "fast": "speed"}
"""The key of genai-prices' context under which each tier of service goes; OpenAI's `fast` is a service_tier."""
NOW = datetime.now(UTC)
BESIDE_TOKENS = ("audio_ms", "input_characters", "web_searches", "file_searches", "images")
TOKEN_FIGURES = [name for name in Usage.__struct_fields__ if name not in BESIDE_TOKENS]


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
    """Of every class that has a price; cached sound and pictures are in all three figures that they count in."""
    dice = random.Random(7)
    found = [Usage(), Usage(10, 10, 0, 3)]
    for most in (5_000, 30_000, 300_000):
        left = [dice.randint(0, most) for _ in range(9)]
        _text, cached, written, kept, audio, cached_audio, image, cached_image, video = left
        spoken, drawn, thought, said = (dice.randint(0, most) for _ in range(4))
        found.append(
            Usage(
                input_tokens=sum(left),
                cached_tokens=cached + cached_audio + cached_image,
                cache_write_tokens=written + kept,
                cache_write_1h_tokens=kept,
                input_audio_tokens=audio + cached_audio,
                input_image_tokens=image + cached_image,
                input_video_tokens=video,
                cached_audio_tokens=cached_audio,
                cached_image_tokens=cached_image,
                output_tokens=said + spoken + drawn + thought,
                output_audio_tokens=spoken,
                output_image_tokens=drawn,
                reasoning_tokens=thought,
                audio_ms=most * 10,
                input_characters=dice.randint(0, most),
                web_searches=dice.randint(0, 9),
                file_searches=dice.randint(0, 9),
            )
        )
    return found


def test_costs_equal_those_of_genai_prices_for_every_model_in_every_tier_of_service() -> None:
    compared: dict[str, int] = {}
    for provider in providers:
        for model in provider.models:
            price = own_price(provider, model)
            if price is None:
                continue
            for tier in (None, *price.service_tiers):
                context = {} if tier is None else {TIERS[tier]: tier}
                if tier == "fast" and provider.id == "openai":
                    context = {"service_tier": "fast"}
                for usage in usages()[-2 if tier else 0 :]:
                    reported = in_their_terms(usage)
                    expected = model.calc_price(reported, provider, price_context=context).total_price * 10**9
                    difference = abs(price.cost(usage, service_tier=tier) - expected)
                    # Half a nano of rounding; beyond it the tails of floats in the data (1e-17 a token).
                    assert difference <= Decimal("0.5") + expected * Decimal("1e-9"), (
                        provider.id,
                        model.id,
                        tier,
                        usage,
                    )
                    compared[tier or "standard"] = compared.get(tier or "standard", 0) + 1
    assert compared["standard"] > 10_000
    assert min(compared[tier] for tier in TIERS) > 20


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
CLASSES = [field.name for field in fields(Rates) if field.name not in ("above", "least_audio_ms")]
tiers_of_input = st.lists(
    st.fixed_dictionaries({name: st.integers(0, 10**12) for name in CLASSES}), min_size=1, max_size=3
).map(lambda tiers: tuple(Rates(**tier, above=place * 100_000) for place, tier in enumerate(tiers)))


@settings(max_examples=50)
@given(tiers_of_input, tiers_of_input, amounts, amounts, st.data())
def test_no_usage_within_a_bound_costs_more_than_the_bound(
    standard: tuple[Rates, ...],
    flex: tuple[Rates, ...],
    most_input: int,
    most_output: int,
    data: st.DataObject,
) -> None:
    """Whatever is reported, even parts that are more than the whole; served at the tier asked for, or not."""
    price = ModelPrice("m", None, "test", standard, {"flex": flex})
    beside = Usage(**{name: data.draw(st.integers(0, 10**6)) for name in BESIDE_TOKENS})
    used = {name: data.draw(amounts) for name in TOKEN_FIGURES}
    used |= {"input_tokens": data.draw(st.integers(0, most_input))}
    used |= {"output_tokens": data.draw(st.integers(0, most_output))}
    used |= {name: data.draw(st.integers(0, getattr(beside, name))) for name in BESIDE_TOKENS}
    asked = data.draw(st.sampled_from([None, "flex"]))
    served = data.draw(st.sampled_from([None, asked, "default"]))
    cost = price.cost(Usage(**used), service_tier=served, round_up=True)
    assert cost <= price.worst_cost(most_input, most_output, Reach(service_tier=asked, beside_tokens=beside))


@given(tiers_of_input, amounts, amounts)
def test_a_bound_of_text_that_is_not_kept_for_an_hour_covers_all_such_use(
    standard: tuple[Rates, ...], tokens: int, output: int
) -> None:
    price = ModelPrice("m", None, "test", standard)
    reach = Reach(media=False, cache_1h=False)
    for usage in (
        Usage(tokens, 0, 0, output, output_image_tokens=output),
        Usage(tokens, 0, 0, output),
        Usage(tokens, tokens, 0, output),
        Usage(tokens, 0, tokens, output),
    ):
        assert price.cost(usage, round_up=True) <= price.worst_cost(tokens, output, reach)
    assert price.worst_cost(tokens, output, reach) <= price.worst_cost(tokens, output)


@given(tiers_of_input, amounts, amounts)
def test_rounding_happens_once_half_even_or_up(tiers: tuple[Rates, ...], tokens: int, output: int) -> None:
    price = ModelPrice("m", None, "test", tiers)
    usage = Usage(tokens, 0, 0, output)
    in_force = [tier for tier in tiers if tier.above < tokens] or [tiers[0]]
    rates = in_force[-1]
    exact = Decimal(tokens * rates.input + output * rates.output + rates.request) / 10**6
    assert price.cost(usage) == int(exact.to_integral_value())
    assert price.cost(usage, round_up=True) == int(exact.to_integral_value("ROUND_CEILING"))


@given(
    st.builds(Rates, *[amounts] * 4, reasoning=amounts, request=amounts),
    st.builds(Usage, *[st.integers(0, 12)] * 5),
)
def test_each_token_is_charged_once_at_the_rate_of_its_class(rates: Rates, usage: Usage) -> None:
    """Token by token, the dearer class first; of classes that are more than their whole, what fits in it."""
    prompt = ["write"] * usage.cache_write_tokens + ["cached"] * usage.cached_tokens
    prompt = [*prompt, *["input"] * usage.input_tokens][: max(0, usage.input_tokens)]
    output = ["reasoning"] * usage.reasoning_tokens + ["output"] * usage.output_tokens
    output = output[: max(0, usage.output_tokens)]
    each = {
        "write": rates.cache_write,
        "cached": rates.cached_input,
        "input": rates.input,
        "reasoning": rates.reasoning,
        "output": rates.output,
    }
    assert rates.of(usage) == sum(each[name] for name in prompt + output) + rates.request


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


def test_a_bare_same_as_stands_in_for_other_models_and_a_price_of_its_own_does_not() -> None:
    book = PriceBook(
        [
            ConfiguredPrice("group", same_as="gpt-4o", max_output_tokens=5),
            ConfiguredPrice("alias-of-group", same_as="group"),
            ConfiguredPrice("discounted", same_as="gpt-4o", input_usd_per_mtok=Decimal(1)),
            ConfiguredPrice("alias-of-discounted", same_as="discounted"),
        ]
    )
    stand_in = {
        model: price.is_stand_in
        for model in ("group", "alias-of-group", "discounted", "alias-of-discounted", "gpt-4o")
        if (price := book.find(model))
    }
    assert stand_in == {
        "group": True,
        "alias-of-group": True,
        "discounted": False,
        "alias-of-discounted": False,
        "gpt-4o": False,
    }


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
    assert (f"known-{REMEMBERED_NAMES + 99}", None) in own._found


def test_the_provider_that_is_called_says_what_its_models_cost() -> None:
    """Groq and Cerebras host OpenAI's open model, at three prices."""
    for name, url, source in [
        ("openai/gpt-oss-120b", "https://api.groq.com/openai", "groq: openai/gpt-oss-120b"),
        ("gpt-oss-120b", "https://api.cerebras.ai/v1", "cerebras: gpt-oss-120b"),
        ("openai/gpt-oss-120b", "http://127.0.0.1:4000", "openai: gpt-oss-120b"),
        ("gpt-oss-120b", None, "openai: gpt-oss-120b"),
    ]:
        found = book().find(name, url=url)
        assert found is not None
        assert found.source == source
    unknown_there = book().find("claude-sonnet-4-5", url="https://api.groq.com/openai")
    assert unknown_there is not None
    assert unknown_there.source == "anthropic: claude-sonnet-4-5"


def test_a_cache_that_is_kept_for_an_hour_costs_what_it_is_configured_to() -> None:
    price = PriceBook(
        [
            ConfiguredPrice(
                "m",
                Decimal(1),
                Decimal(2),
                cache_write_usd_per_mtok=Decimal("1.25"),
                cache_write_1h_usd_per_mtok=Decimal(2),
            )
        ]
    ).find("m")
    assert price is not None
    usage = Usage(1_000_000, cache_write_tokens=600_000, cache_write_1h_tokens=200_000)
    assert price.cost(usage) == 400_000_000 + 500_000_000 + 400_000_000
    assert price.worst_cost(10**6, 0) == 2 * 10**9
    assert price.worst_cost(10**6, 0, Reach(cache_1h=False)) == 1_250_000_000


def test_pictures_and_minutes_of_sound_have_prices_of_their_own() -> None:
    price = PriceBook(
        [ConfiguredPrice("m", image_usd=Decimal("0.04"), audio_minute_usd=Decimal("0.006"))]
    ).find("m")
    assert price is not None
    assert price.cost(Usage(images=3)) == 120_000_000
    assert price.cost(Usage(audio_ms=90_000)) == 9_000_000
    assert not price.counts_tokens, "so that a call in tokens is not free"


def test_short_sound_is_billed_as_ten_seconds_by_groq() -> None:
    price = book().find("whisper-large-v3", url="https://api.groq.com/openai/v1")
    assert price is not None
    assert price.cost(Usage(audio_ms=1)) == price.cost(Usage(audio_ms=10_000)) == 308_333


def test_what_is_configured_over_another_model_counts_in_all_its_tiers() -> None:
    price = PriceBook([ConfiguredPrice("m", same_as="gpt-5.2", input_usd_per_mtok=Decimal(7))]).find("m")
    original = book().find("gpt-5.2")
    assert price is not None
    assert original is not None
    for tier in (None, "flex", "priority"):
        assert price.cost(Usage(10**6), service_tier=tier) == 7 * 10**9
        assert price.cost(Usage(0, 0, 0, 9), service_tier=tier) == original.cost(
            Usage(0, 0, 0, 9), service_tier=tier
        )


def test_claudes_output_maxima_are_not_its_context_windows() -> None:
    """As platform.claude.com/docs/en/models gives them."""
    for name, most in [
        ("claude-haiku-4-5", 64_000),
        ("claude-opus-4-7", 128_000),
        ("anthropic/claude-opus-4.8", 128_000),
        ("claude-sonnet-4-6", 128_000),
        ("claude-fable-5", 128_000),
    ]:
        price = book().find(name)
        assert price is not None
        assert price.max_output_tokens == most, name


def test_prices_that_nobody_has_looked_at_for_months_are_told_of() -> None:
    day = book().shipped_date
    assert day <= date.today()
    assert book().stale(day + timedelta(days=STALE_DAYS)) is None
    told = book().stale(day + timedelta(days=STALE_DAYS + 1))
    assert told is not None
    assert f"{STALE_DAYS + 1} days old" in told
