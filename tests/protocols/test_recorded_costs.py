"""What recorded exchanges cost, as the stack settles them, against genai-prices: of our usage, and as it reads the
answers itself. Where the two differ stands in docs/prices.md, with the reasons."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import genai_prices
import pytest
from tests.core.genai import in_their_terms
from tests.protocols.exchanges import EXCHANGES, recorded

from govmiddleware.core.prices import PriceBook
from govmiddleware.core.providers import Provider
from govmiddleware.core.refusals import Refusal
from govmiddleware.replay.lines import read_exchange
from govmiddleware.replay.player import Played, Player

pytestmark = pytest.mark.skipif(not EXCHANGES.is_dir(), reason=f"no recorded exchanges in {EXCHANGES}")

FILES = sorted(path.name.removesuffix(".jsonl.gz") for path in EXCHANGES.glob("*.jsonl.gz"))
NOW = datetime.now(UTC)
HALF = Decimal("0.5")
FLAVORS = ("chat", "responses", "embeddings", "default")
"""Of wire protocols, as genai-prices calls them: each of its providers has some."""


@cache
def played(file: str) -> list[tuple[dict[str, Any], Played]]:
    """All whose answer reports its usage, in a protocol that is read here."""
    player = Player(
        PriceBook(),
        [Provider()],
        default_max_output_tokens=4096,
        unknown_size_tokens=2000,
        batches="refuse",
        max_body_bytes=2**25,
    )

    async def play() -> list[tuple[dict[str, Any], Played]]:
        found = []
        for exchange in recorded(file):
            try:
                each = await player.play(read_exchange(json.dumps(exchange).encode()), NOW)
            except Refusal:
                continue
            if each.call.usage is not None or (each.refusal and each.usage):
                found.append((exchange, each))
        return found

    return asyncio.run(play())


def context(each: Played) -> dict[str, str]:
    tier = each.call.service_tier or ""
    return {"batch": {"processing": tier}, "fast": {"speed": tier}}.get(tier, {"service_tier": tier})


def address(exchange: dict[str, Any]) -> str:
    return f"https://{exchange['host']}{exchange['path']}"


def of_our_usage(exchange: dict[str, Any], each: Played) -> Decimal | None:
    """nano-USD as genai-prices prices our figures, by the model that answered or else was asked; None for one that
    it does not know."""
    assert each.usage is not None
    for model in (each.call.model_served, each.call.model):
        try:
            found = genai_prices.calc_price(
                in_their_terms(each.usage),
                model or "",
                provider_api_url=address(exchange),
                price_context=context(each),
            )
        except LookupError:
            continue
        return found.total_price * 10**9
    return None


def of_their_own(exchange: dict[str, Any], each: Played) -> Decimal | None:
    """nano-USD as genai-prices reads and prices an answer; None for one that it cannot read."""
    if exchange["response"] is None:
        return None
    for flavor in FLAVORS:
        try:
            read = genai_prices.extract_usage(
                exchange["response"], provider_api_url=address(exchange), api_flavor=flavor
            )
            if read.model is None and each.call.model:  # Bedrock's address names it
                named = genai_prices.calc_price(
                    read.usage,
                    each.call.model,
                    provider_api_url=address(exchange),
                    price_context=context(each),
                )
                return named.total_price * 10**9
            return read.calc_price(price_context=context(each)).total_price * 10**9
        except (LookupError, ValueError):
            continue
    return None


def disagrees(exchange: dict[str, Any], each: Played) -> bool:
    """Whether genai-prices leaves out what is billed: see docs/prices.md."""
    usage = exchange["response"].get("usage") or {}
    advised = any(part["type"] == "advisor_message" for part in usage.get("iterations") or ())
    searched = each.usage is not None and (each.usage.web_searches or each.usage.file_searches)
    return bool(usage.get("num_cached_tokens") or advised or searched)


@pytest.mark.parametrize("file", FILES)
def test_a_recorded_answer_costs_what_genai_prices_says_of_its_usage(file: str) -> None:
    seen = Counter[str]()
    for exchange, each in played(file):
        try:
            theirs = of_our_usage(exchange, each)
        except ValueError:  # OpenRouter counts tokens of Gemini's cache as both written and read
            assert exchange["host"] == "openrouter.ai"
            seen["refused by genai-prices"] += 1
            continue
        if theirs is None:
            seen["unknown to genai-prices"] += 1
            continue
        assert each.cost is not None, exchange["id"]
        assert abs(each.cost - theirs) <= HALF, exchange["id"]
        seen["equal"] += 1
    assert seen["refused by genai-prices"] <= 1
    if "equal" in seen:  # else the protocol is not one that is read here
        assert seen["equal"] >= 0.9 * seen.total()


@pytest.mark.parametrize("file", FILES)
def test_a_recorded_answer_costs_what_genai_prices_reads_in_it(file: str) -> None:
    for exchange, each in played(file):
        theirs = of_their_own(exchange, each)
        if theirs is None or each.cost is None:
            continue
        if abs(each.cost - theirs) > HALF:
            assert disagrees(exchange, each), exchange["id"]
