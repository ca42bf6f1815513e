"""Which counters a call is held against, and how they are named."""

from __future__ import annotations

import pytest

from govmiddleware.core.limits import Counter, Limit, Meter, holds_for, split_counter_name
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import (
    CalendarUnit,
    CalendarWindow,
    Lifetime,
    Now,
    SlidingWindow,
    window_named,
)

MINUTE, MONTH = SlidingWindow(60), CalendarWindow(CalendarUnit.MONTH)
AMOUNTS = dict.fromkeys(Meter, 1) | {Meter.COST_USD: 500}
ANN = {Scope.WORKSPACE: "acme", Scope.API_TOKEN: "ci", Scope.USER: "ann"}


def test_a_call_is_held_by_the_limits_whose_scope_it_has() -> None:
    limits = [
        Limit("a", Scope.USER, Meter.REQUESTS, MINUTE, 10),
        Limit("b", Scope.USER, Meter.COST_USD, MONTH, 10),
        Limit("c", Scope.MODEL, Meter.REQUESTS, MINUTE, 10),
        Limit("d", Scope.PROVIDER, Meter.REQUESTS, MINUTE, 10),
    ]
    found = holds_for(limits, ANN, AMOUNTS)
    assert [(hold.counter.name, hold.amount) for hold in found] == [
        ("user:requests:60s:ann", 1),
        ("user:cost_usd:month:ann", 500),
    ]
    assert len(holds_for(limits, {**ANN, Scope.MODEL: "m"}, AMOUNTS)) == 3
    assert len(holds_for(limits, {**ANN, Scope.MODEL: "m", Scope.PROVIDER: "p"}, AMOUNTS)) == 4


def test_a_limit_with_a_value_is_for_that_value_alone() -> None:
    limit = Limit("a", Scope.USER, Meter.REQUESTS, MINUTE, 10, value="ann")
    assert len(holds_for([limit], ANN, AMOUNTS)) == 1
    assert holds_for([limit], {**ANN, Scope.USER: "bob"}, AMOUNTS) == []


def test_limits_on_one_counter_share_a_hold_and_the_strictest_counts() -> None:
    limits = [Limit(str(hard), Scope.USER, Meter.REQUESTS, MINUTE, hard) for hard in (10, 3, 7)]
    [hold] = holds_for(limits, ANN, AMOUNTS)
    assert hold.hard == 3
    assert [limit.name for limit in hold.limits] == ["10", "3", "7"]


def test_a_limit_that_is_edited_or_renamed_keeps_its_counter() -> None:
    before = Limit("before", Scope.USER, Meter.REQUESTS, MINUTE, 10)
    after = Limit("after", Scope.USER, Meter.REQUESTS, MINUTE, 99)
    assert holds_for([before], ANN, AMOUNTS)[0].counter == holds_for([after], ANN, AMOUNTS)[0].counter


def test_a_counters_name_can_be_taken_apart_again() -> None:
    for window in (MINUTE, MONTH, Lifetime(), Now()):
        name = Counter(Scope.USER, Meter.REQUESTS, window, "ann:with:colons").name
        scope, meter, named, value = name.split(":", 3)
        assert (scope, meter, value) == ("user", "requests", "ann:with:colons")
        assert window_named(named) == window


def test_sliding_windows_and_concurrency_refuse_as_rates_and_the_others_as_budgets() -> None:
    by_window = {
        window: Limit("a", Scope.USER, Meter.REQUESTS, window, 1).refuses_as_rate
        for window in (MINUTE, Now(), MONTH, Lifetime())
    }
    assert by_window == {MINUTE: True, Now(): True, MONTH: False, Lifetime(): False}


def test_only_what_the_headers_tell_is_known_before_the_body() -> None:
    known = {
        (scope, meter)
        for scope in Scope
        for meter in Meter
        if Limit("a", scope, meter, MINUTE, 1).known_from_headers
    }
    assert known == {
        (scope, meter)
        for scope in (Scope.WORKSPACE, Scope.API_TOKEN, Scope.DEPLOYMENT)
        for meter in (Meter.REQUESTS, Meter.CONCURRENCY)
    }


@pytest.mark.parametrize("is_shadow", [False, True])
@pytest.mark.parametrize(
    "scope", ["user", "tag:team", "user+model", "tag:team+user", "user+tag:requests", "deployment+tag:a.b"]
)
@pytest.mark.parametrize("value", ["ann", "a:b:c", "a|b", "", "x\ny"])
def test_the_name_of_a_counter_can_be_taken_apart(scope: str, value: str, is_shadow: bool) -> None:
    counter = Counter(scope, Meter.TOTAL_TOKENS, SlidingWindow(60), value, is_shadow)
    shown = f"dry_run:{scope}" if is_shadow else scope
    assert split_counter_name(counter.name) == (shown, "total_tokens", "60s", value)
