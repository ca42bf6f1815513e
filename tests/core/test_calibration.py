"""What is learned from estimates and true inputs, against plain sorting, and what no caller can do to it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.calibration import GRACE, LAST_BUCKET, LEAST_OBSERVATIONS, Learned, Ratios, bucket_of

COVERAGE = 0.99
few = settings(max_examples=30, deadline=None)
Pairs = list[tuple[int, int]]
"""Of estimates and actual figures."""


@st.composite
def traffic(draw: st.DrawFn, least: int = LEAST_OBSERVATIONS, most: int = 300) -> Pairs:
    """Drawn by a few numbers, for lists of pairs take hypothesis long."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    size, low, spread = draw(st.integers(0, 100_000)), draw(st.floats(0.3, 1.5)), draw(st.floats(0, 2.4))
    pairs = []
    for _ in range(draw(st.integers(least, most))):
        estimate = chance.randint(0, size)
        pairs.append((estimate, round(estimate * (low + spread * chance.random() ** 4))))
    return pairs


def observed(pairs: Pairs) -> Ratios:
    ratios = Ratios()
    for estimate, actual in pairs:
        ratios.observe(estimate, actual)
    return ratios


def learned(pairs: Pairs, coverage: float = COVERAGE) -> Learned:
    found = observed(pairs).learned(coverage)
    assert found is not None
    return found


@few
@given(traffic(), st.sampled_from([0.5, 0.9, 0.99, 0.999]))
def test_the_ratio_is_the_quantile_that_sorting_gives_at_most_one_percent_above_it(
    pairs: Pairs, coverage: float
) -> None:
    ratios = sorted((actual + GRACE) / (estimate + GRACE) for estimate, actual in pairs)
    rank = min(len(ratios), math.ceil(round(coverage * (len(ratios) + 1), 6)))
    quantile = max(1.0, ratios[rank - 1])
    assert quantile * (1 - 1e-9) <= learned(pairs, coverage).ratio <= quantile * 1.01


@few
@given(traffic(), st.integers(0, 50_000))
def test_a_bound_lies_between_the_estimate_and_twice_what_is_shipped_and_within_what_bytes_allow(
    pairs: Pairs, above: int
) -> None:
    found = learned(pairs)
    for estimate, _ in pairs[:20]:
        shipped = estimate + above
        for most in (0, estimate, 3 * shipped):
            bound = found.bound(estimate, shipped=shipped, most=lambda most=most: most)
            assert estimate <= bound <= 2 * shipped
            assert bound <= max(shipped, most)


@few
@given(traffic(least=100))
def test_bounds_hold_as_often_as_asked_for_what_was_learned(pairs: Pairs) -> None:
    found = learned(pairs, 0.9)
    held = sum(
        found.bound(estimate, shipped=4 * estimate + 4 * GRACE, most=lambda: 10**9) >= actual
        for estimate, actual in pairs
    )
    assert held / len(pairs) >= 0.9


def test_nothing_is_learned_from_too_few() -> None:
    pairs = [(1000, 1100)] * (LEAST_OBSERVATIONS - 1)
    assert observed(pairs).learned(COVERAGE) is None
    assert observed([*pairs, (1000, 1100)]).learned(COVERAGE) is not None


def test_a_few_outliers_do_not_move_the_bound() -> None:
    usual = [(1000, 1100)] * 1000
    outliers = [(50, 5000)] * 9
    assert learned(usual + outliers).ratio == learned(usual).ratio


def test_one_outlier_among_few_is_heeded_until_more_have_shown_that_it_is_one() -> None:
    outlier = (1000, 3000)
    assert learned([(1000, 1100)] * 60 + [outlier]).ratio > 2.9
    assert learned([(1000, 1100)] * 220 + [outlier]).ratio < 1.11


def test_whoever_sends_what_nobody_reads_lowers_the_bound_to_the_estimate_and_no_further() -> None:
    """As a huge field that is counted here and dropped upstream."""
    found = learned([(1_000_000, 10)] * 2_000)
    assert 1000 <= found.bound(1000, shipped=1600, most=lambda: 4000) <= 1005


def test_whoever_sends_what_is_far_more_than_it_looks_raises_it_to_twice_the_shipped_and_no_further() -> None:
    found = learned([(1, 1_000_000)] * 2_000)
    assert found.bound(1000, shipped=1200, most=lambda: 10**9) == 2400
    assert found.bound(1000, shipped=1200, most=lambda: 1500) == 1500, "there are not more bytes"
    assert found.bound(1000, shipped=1200, most=lambda: 900) == 1200


@few
@given(st.integers(0, 10**7), st.integers(-1, 10**7) | st.just(10**400))
def test_no_request_weighs_more_than_one_observation_in_a_bucket_there_is(estimate: int, actual: int) -> None:
    assert 0 <= bucket_of(estimate, actual) <= LAST_BUCKET
    assert observed([(estimate, actual)]).total == 1


def test_old_observations_fade_and_memory_is_bounded() -> None:
    ratios = Ratios()
    ratios.learn(observed([(1000, 2000)] * 1000), COVERAGE)
    for _ in range(100):
        ratios.learn(observed([(1000, 1050)] * 50), COVERAGE)
    assert ratios.total == pytest.approx(1000)
    found = ratios.learned(COVERAGE)
    assert found is not None
    assert found.ratio < 1.07
    assert len(ratios.weights) <= LAST_BUCKET + 1


@few
@given(st.lists(traffic(least=0, most=30), max_size=8), st.randoms(use_true_random=False))
def test_until_memory_is_full_it_does_not_matter_who_observed_what_and_when(
    batches: list[Pairs], chance: random.Random
) -> None:
    at_once, in_turn = Ratios(), Ratios()
    at_once.learn(observed([pair for batch in batches for pair in batch]), COVERAGE)
    for batch in chance.sample(batches, len(batches)):
        in_turn.learn(observed(batch), COVERAGE)
    assert in_turn.weights == at_once.weights


def test_the_less_was_seen_the_nearer_the_bound_stays_to_what_is_shipped() -> None:
    few, many = learned([(1000, 1000)] * 50), learned([(1000, 1000)] * 1000)
    bounds = [each.bound(1000, shipped=1600, most=lambda: 4000) for each in (few, many)]
    assert 1600 > bounds[0] > bounds[1] >= 1000
    assert learned([(1000, 1000)] * 50, 0.999).bound(1000, shipped=1600, most=lambda: 4000) > bounds[0]
