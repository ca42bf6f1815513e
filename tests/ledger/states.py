"""What an admission was told of its counters: used, reserved, and after how many ms the amount fits."""

from __future__ import annotations

from govmiddleware.core.ports import AcquireOutcome, CounterState, Granted, LimitsExceeded

State = tuple[int, int, int | None]

FREE: State = (0, 0, None)


def granted(outcome: AcquireOutcome) -> list[State]:
    """Fails for anything but a grant."""
    assert isinstance(outcome, Granted), outcome
    return [_state(state) for state in outcome.states]


def exceeded(outcome: AcquireOutcome) -> list[State]:
    """Fails for anything but a refusal by limits."""
    assert isinstance(outcome, LimitsExceeded), outcome
    return [_state(state) for state in outcome.states]


def _state(state: CounterState) -> State:
    return state.consumed, state.reserved, state.frees_in_ms
