"""From the counters' states to evaluations, and from those that block to the refusal that answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from govmiddleware.core.call import Call
from govmiddleware.core.events import LimitEvent
from govmiddleware.core.limits import Hold, Limit, Meter, Mode
from govmiddleware.core.money import usd_text
from govmiddleware.core.ports import CounterState
from govmiddleware.core.refusals import BudgetExhausted, Decision, Evaluation, LimitRefusal, RateLimited

_CONCURRENCY_RETRY_MS = 1000
"""Nobody knows when an open call ends; a second is a polite guess."""


def evaluate(holds: Sequence[Hold], states: Sequence[CounterState]) -> list[Evaluation]:
    """One evaluation for each limit of each hold."""
    allow, wall_clock = Decision.ALLOW, Meter.WALL_CLOCK
    evaluations: list[Evaluation] = []
    for hold, state in zip(holds, states, strict=True):
        consumed, reserved, asked = state.consumed, state.reserved, state.asked
        taken, value = consumed + reserved, hold.counter.value
        is_clock = hold.counter.meter is wall_clock
        for limit in hold.limits:
            raised, overrides = _raised(limit, hold, state) if hold.raises else (0, ())
            decision, frees_in_ms = allow, None
            if asked > 0 or is_clock:  # what costs nothing passes
                room = max(0, limit.hard - taken) + raised
                if asked > room or (is_clock and asked == room):
                    decision, frees_in_ms = Decision.BLOCK, state.frees_in_ms
                elif limit.soft is not None and taken + asked >= limit.soft:
                    decision = Decision.WARN
            evaluations.append(
                Evaluation(
                    limit, value, consumed, reserved, taken + asked, decision, frees_in_ms, raised, overrides
                )
            )
    return evaluations


def events_of(call: Call, hold: Hold, state: CounterState) -> list[LimitEvent]:
    """The crossings that the ledger told of, of one counter."""
    return [
        LimitEvent(
            workspace=call.require_principal().workspace,
            evaluation=evaluation,
            is_hard=crossing.is_hard,
            window=crossing.window,
            request_id=call.request_id,
        )
        for crossing in state.crossings
        for evaluation in evaluate((hold,), (state,))
        if evaluation.limit.name == crossing.limit
    ]


def _raised(limit: Limit, hold: Hold, state: CounterState) -> tuple[int, tuple[str, ...]]:
    """By how much overrides add to the limit's own room, and the ids of those that do."""
    adding = [
        (each, left)
        for each, left in zip(hold.raises, state.left, strict=True)
        if each.limit == limit.name and left
    ]
    if not adding:
        return 0, ()
    taken = state.consumed + state.reserved
    hard = limit.hard + sum(left for each, left in adding if not each.is_used_up)
    room = max(0, hard - taken) + sum(left for each, left in adding if each.is_used_up)
    return room - max(0, limit.hard - taken), tuple(each.id for each, _ in adding)


def refusal_for(evaluations: Sequence[Evaluation], mode: Mode = Mode.ENFORCED) -> LimitRefusal:
    """The refusal for evaluations of which some of limits in this mode block. Where a budget and a rate both do,
    the budget answers; `failures` names them all, the budgets first."""
    failures = tuple(
        sorted(
            (each for each in evaluations if each.decision is Decision.BLOCK and each.limit.mode is mode),
            key=lambda evaluation: evaluation.limit.refuses_as_rate,
        )
    )
    message = " ".join(_sentence(failure) for failure in failures)
    if not failures[0].limit.refuses_as_rate:
        return BudgetExhausted(message, failures, failures[0].frees_in_ms)
    waits = [_retry_after(failure) for failure in failures]
    known = [wait for wait in waits if wait is not None]
    return RateLimited(message, failures, max(known) if len(known) == len(waits) else None)


def _retry_after(failure: Evaluation) -> int | None:
    if failure.limit.meter is Meter.CONCURRENCY and not failure.can_never_fit:
        return _CONCURRENCY_RETRY_MS
    return failure.frees_in_ms


def _sentence(failure: Evaluation) -> str:
    limit = failure.limit
    sentence = (
        f"Limit {limit.name!r} ({limit.meter} per {limit.scope}, {limit.window.name}) is reached for"
        f" {limit.scope} {failure.value!r}: {_amount(limit.meter, failure.consumed)} used and"
        f" {_amount(limit.meter, failure.reserved)} reserved of {_amount(limit.meter, limit.hard)}"
    )
    if failure.raised:
        sentence += f", past which overrides leave {_amount(limit.meter, failure.raised)}"
    sentence += f"; this call needs {_amount(limit.meter, failure.asked)}." if failure.asked else "."
    if failure.can_never_fit:
        return f"{sentence} It is larger than the whole limit and can never pass."
    if failure.frees_in_ms is not None:
        wait = timedelta(seconds=-(-failure.frees_in_ms // 1000))
        return f"{sentence} It fits in {wait} at the latest."
    return sentence


def _amount(meter: Meter, amount: int) -> str:
    return f"{usd_text(amount)} USD" if meter is Meter.COST_USD else str(amount)
