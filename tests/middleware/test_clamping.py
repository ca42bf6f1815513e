"""A call whose whole bound does not fit is held to the output that the limits leave it, and told so."""

from __future__ import annotations

from decimal import Decimal

import pytest

from govmiddleware.testing import Clock

MONTH = {"name": "month", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": "0.001"}
RATE = {"name": "rate", "scope": "workspace", "meter": "output_tokens", "rate": "500/minute"}
TELLS = "x-gov-max-output-tokens"


async def test_a_call_is_held_to_what_the_budget_affords_and_told_so(governed, inside, post, journal) -> None:
    governance = await governed(limits=[MONTH])
    answer = await post(governance.stack(inside), max_tokens=900)
    assert answer.status_code == 200
    granted = int(answer.headers[TELLS])
    assert 64 <= granted < 900
    assert inside.provider.exchanges[0].body["max_tokens"] == granted
    bound = Decimal(answer.headers["x-gov-estimated-cost-usd"])
    left = Decimal(answer.headers["x-gov-budget-remaining-usd"])
    assert bound + left == Decimal("0.001")
    assert left < Decimal("0.000002"), "not one token more would have fitted"
    [record] = await journal(governance)
    assert record["bound"]["output_tokens"] == granted
    assert Decimal(record["bound"]["cost_usd"]) == bound


async def test_a_call_that_fits_whole_is_left_as_it_is(governed, inside, post) -> None:
    governance = await governed(limits=[MONTH])
    answer = await post(governance.stack(inside), max_tokens=80)
    assert TELLS not in answer.headers
    assert inside.provider.exchanges[0].body["max_tokens"] == 80


async def test_what_the_client_did_not_bound_is_bounded_where_the_budget_forces_it(
    governed, inside, post
) -> None:
    governance = await governed(limits=[MONTH])
    answer = await post(governance.stack(inside), max_tokens=None)
    assert inside.provider.exchanges[0].body["max_tokens"] == int(answer.headers[TELLS]) < 1000


async def test_every_choice_is_held_to_its_share(governed, inside, post) -> None:
    governance = await governed(limits=[MONTH])
    one = await post(governance.stack(inside), max_tokens=900)
    governance = await governed(limits=[MONTH | {"scope": "user"}])
    two = await post(governance.stack(inside), max_tokens=900, n=2)
    assert int(two.headers[TELLS]) == int(one.headers[TELLS]) // 2


@pytest.mark.parametrize(("least", "status"), [(200, 429), (100, 200)])
async def test_less_than_the_configured_least_is_refused(governed, inside, post, least, status) -> None:
    """What is left is about 340 tokens for two choices: 170 each."""
    governance = await governed(limits=[MONTH], clamp_min_output_tokens=least)
    answer = await post(governance.stack(inside), max_tokens=900, n=2)
    assert answer.status_code == status
    if status == 429:
        [limit] = answer.json()["error"]["limits"]
        assert Decimal(limit["requested"]) > Decimal("0.001"), "the least that would have been of use"


async def test_a_client_that_asks_for_less_than_the_least_gets_it_or_nothing(governed, inside, post) -> None:
    governance = await governed(limits=[MONTH | {"hard": "0.0005"}])
    app = governance.stack(inside)
    answers = [await post(app, max_tokens=20) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(TELLS not in answer.headers for answer in answers)


async def test_a_rate_that_frees_soon_refuses_rather_than_to_clamp(governed, inside, post) -> None:
    governance = await governed(limits=[RATE], clock=Clock())
    app = governance.stack(inside)
    answers = [await post(app, max_tokens=300), await post(app, max_tokens=499)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert "retry-after" in answers[1].headers


async def test_a_call_that_no_empty_window_would_hold_is_held_to_the_window(governed, inside, post) -> None:
    governance = await governed(limits=[RATE])
    answer = await post(governance.stack(inside), max_tokens=900)
    assert answer.headers[TELLS] == "500"


async def test_a_model_that_costs_nothing_passes_a_budget_that_is_used_up(governed, inside, post) -> None:
    free = {"model": "free", "input_usd_per_mtok": 0, "output_usd_per_mtok": 0, "max_output_tokens": 1000}
    paid = {"model": "m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "max_output_tokens": 1000}
    governance = await governed(limits=[MONTH | {"hard": 0}], prices=[free, paid])
    app = governance.stack(inside)
    assert (await post(app)).status_code == 429
    assert (await post(app, model="free", max_tokens=None)).status_code == 200
