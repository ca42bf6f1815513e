"""Refusals by limits, made by hand."""

from __future__ import annotations

from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.refusals import BudgetExhausted, Evaluation, RateLimited
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, SlidingWindow


def evaluation(meter: Meter, hard: int, used: int, asked: int, frees_in_ms: int | None = None) -> Evaluation:
    window = CalendarWindow(CalendarUnit.MONTH) if meter is Meter.COST_USD else SlidingWindow(60)
    limit = Limit(f"{meter}-limit", Scope.USER, meter, window, hard)
    return Evaluation(limit, "ann", used, 2, used + 2 + asked, "block", frees_in_ms)


def rate_limited(*failures: Evaluation, retry_after_ms: int | None = 1_500) -> RateLimited:
    return RateLimited("Too many.", failures, retry_after_ms)


def budget_exhausted(frees_in_ms: int | None = 86_400_000) -> BudgetExhausted:
    failure = evaluation(Meter.COST_USD, 10_000_000_000, 9_999_999_000, 1_500, frees_in_ms)
    return BudgetExhausted("The budget is spent.", (failure,), frees_in_ms)
