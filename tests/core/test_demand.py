"""What a call asks of every meter, for any output."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from govmiddleware.core.demand import NOTHING, Bound, Demand, growth
from govmiddleware.core.limits import Amount, Meter

DEMAND = Demand(
    input_tokens=120, output=500, fixed_cost=120_000, output_femto=2_500_000, choices=2, predicted_tokens=7
)


def test_the_bound_is_asked_on_every_meter() -> None:
    assert {meter: amount.at(500) for meter, amount in DEMAND.amounts().items()} == {
        Meter.REQUESTS: 1,
        Meter.INPUT_TOKENS: 120,
        Meter.OUTPUT_TOKENS: 7 + 2 * 500,
        Meter.TOTAL_TOKENS: 120 + 7 + 2 * 500,
        Meter.COST_USD: 120_000 + 2500,
        Meter.CONCURRENCY: 1,
        Meter.WALL_CLOCK: 0,
    }


def test_a_bound_is_of_the_whole_output_or_of_less() -> None:
    assert DEMAND.whole == DEMAND.bound(500) == Bound(120, 1007, 122_500)
    assert DEMAND.bound(100) == Bound(120, 207, 120_500)


def test_a_request_that_calls_no_model_asks_for_itself_and_its_place_alone() -> None:
    asked = {meter: amount.at(0) for meter, amount in NOTHING.amounts().items()}
    assert {meter for meter, amount in asked.items() if amount} == {Meter.REQUESTS, Meter.CONCURRENCY}


def test_growth_asks_for_output_alone() -> None:
    asked = {meter: amount.at(10) for meter, amount in growth(DEMAND).items()}
    assert {meter: amount for meter, amount in asked.items() if amount} == {
        Meter.OUTPUT_TOKENS: 20,
        Meter.TOTAL_TOKENS: 20,
        Meter.COST_USD: 50,
    }


@given(st.integers(0, 10**9), st.integers(0, 10**12), st.integers(0, 10**6), st.integers(0, 10**6))
def test_slices_never_ask_less_than_the_whole(fixed: int, per_token: int, first: int, second: int) -> None:
    whole, more = Amount(fixed, per_token), Amount(0, per_token)
    assert whole.at(first) + more.at(second) >= whole.at(first + second)
