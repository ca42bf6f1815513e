"""`prices show`: every rate of a model, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.cli.conftest import Ran

from govmiddleware.core import prices
from govmiddleware.core.prices import PriceBook


@pytest.fixture
def show(run: Callable[..., Ran]) -> Callable[[str], dict[str, Any]]:
    def shown(model: str) -> dict[str, Any]:
        ran = run("prices", "show", model, "--json")
        assert ran.code == 0, ran.err
        return json.loads(ran.out)

    return shown


def rate(told: dict[str, Any], name: str, **where: object) -> dict[str, Any]:
    [found] = [row for row in told["rates"] if row["class"] == name and where.items() <= row.items()]
    return found


def test_a_shipped_price_names_its_data_its_tiers_and_its_output_maximum(show) -> None:
    told = show("openai/gpt-5.6-sol")
    book = PriceBook()
    assert (told["model"], told["priced_as"]) == ("openai/gpt-5.6-sol", "openai: gpt-5.6-sol")
    assert told["price_version"] == book.version
    assert told["shipped_data"] == {"version": book.shipped_version, "date": str(book.shipped_date)}
    assert told["max_output_tokens"]["tokens"] == 128_000
    assert told["max_output_tokens"]["source"].startswith("litellm ")
    plain = rate(told, "output", service_tier="standard", above_input_tokens=None)
    long = rate(told, "output", service_tier="standard", above_input_tokens=272_000)
    assert (plain["usd"], plain["per"], long["usd"]) == ("20", "1M tokens", "30")
    assert book.shipped_version in plain["source"]
    assert rate(told, "input", service_tier="flex", above_input_tokens=None)["usd"] == "2"
    assert rate(told, "web_search")["per"] == "1000 searches", "once: no tier differs in it"


def test_prices_that_change_say_when_and_which_is_in_force(show) -> None:
    told = show("deepseek-chat")
    rows = [row for row in told["rates"] if row["class"] == "input"]
    assert {row["when"] for row in rows} == {"else", "00:30 to 16:30 UTC"}
    assert sorted(row["in_force"] for row in rows) == ["no", "yes"]


def test_a_configured_price_names_its_entry_and_what_it_takes_from_another(show, configured) -> None:
    configured(
        '[[prices]]\nmodel = "*"\nrequest_usd = 0.5\n'
        '[[prices]]\nmodel = "mine-*"\nsame_as = "gpt-4o"\noutput_usd_per_mtok = 1\nmax_output_tokens = 7\n'
    )
    told = show("mine-1")
    assert rate(told, "output", service_tier="standard")["source"] == "prices[1] of the configuration"
    assert rate(told, "input", service_tier="standard")["source"].startswith("openai: gpt-4o, genai-prices ")
    assert told["max_output_tokens"] == {"tokens": 7, "source": "prices[1] of the configuration"}
    rest = show("nobody-knows")
    assert [(row["class"], row["usd"], row["source"]) for row in rest["rates"]] == [
        ("request", "0.5", "prices[0] of the configuration")
    ]
    assert rest["max_output_tokens"]["tokens"] == 4096


def test_the_upstream_that_takes_the_model_decides(show, configured) -> None:
    configured(
        '[[upstreams]]\nname = "fast"\nurl = "https://api.groq.com/openai"\nmodels = ["openai/gpt-oss-*"]\n'
        '[[upstreams]]\nname = "rest"\nurl = "http://127.0.0.1:1"\n'
    )
    told = show("openai/gpt-oss-120b")
    assert (told["upstream"], told["priced_as"]) == ("fast", "groq: openai/gpt-oss-120b")


def test_a_model_without_a_price_exits_with_1_and_near_names(run: Callable[..., Ran]) -> None:
    ran = run("prices", "show", "gpt-4oo")
    assert (ran.code, ran.out) == (1, "")
    assert "model_not_priced" in ran.err
    assert "gpt-4o" in ran.err.split("near it are ")[1]
    told = run("prices", "show", "gpt-4oo", "--json")
    assert told.code == 1
    assert "gpt-4o" in json.loads(told.out)["near"]


def test_the_table_has_a_row_for_each_rate(run: Callable[..., Ran]) -> None:
    ran = run("prices", "show", "gpt-4o")
    assert ran.code == 0
    head, most, _, columns, *rows = ran.out.splitlines()
    assert "priced as openai: gpt-4o" in head
    assert "16384 output tokens" in most
    assert columns.split() == ["CLASS", "USD", "PER", "SERVICE_TIER", "SOURCE"]
    assert rows[0].split()[:3] == ["input", "2.5", "1M"]


def test_doctor_tells_of_prices_that_are_months_old(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prices_in(out: str) -> str:
        [line] = [line for line in out.splitlines() if " prices: " in line]
        return line

    fresh = run("doctor")
    assert prices_in(fresh.out).startswith("ok")
    monkeypatch.setattr(prices, "STALE_DAYS", (-timedelta(days=1)).days)
    stale = run("doctor")
    assert prices_in(stale.out).startswith("--")
    assert "days old" in prices_in(stale.out)
    assert stale.code == fresh.code, "a warning, not a failure"
