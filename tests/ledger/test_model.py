"""The real scripts against a model of them: random lives of reservations, the same decisions and books.

The model keeps every hold with its time and amount, and adds them up anew for each question. What counts
is taken from the docstrings of `core.windows`, not from the scripts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from govmiddleware.core.limits import Amount, Counter, Hold, Limit, Meter
from govmiddleware.core.ports import Granted, LimitsExceeded, ReservationGone
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Lifetime, Now, SlidingWindow, Window
from govmiddleware.testing.clock import Clock

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

T = TypeVar("T")

WINDOWS: list[tuple[Window, int]] = [
    (SlidingWindow(1), 20),
    (SlidingWindow(60), 30),
    (SlidingWindow(3600), 60),
    (CalendarWindow(CalendarUnit.HOUR), 40),
    (CalendarWindow(CalendarUnit.MONTH), 200),
    (Lifetime(), 300),
    (Now(), 4),
]
LIMITS = [Limit(window.name, Scope.USER, Meter.TOTAL_TOKENS, window, hard) for window, hard in WINDOWS]
LEASE_MS = 60_000
STEPS_MS = [0, 1, 15, 16, 17, 999, 1000, 1016, 1040, 5000, 59_999, 60_000, 61_000, 122_000, 1_800_000]
STEPS_MS += [3_600_000, 3_660_000, 7_400_000, 40_000_000, 2_700_000_000]


# The model ---------------------------------------------------------------------------------------


@dataclass
class ModelHold:
    limit: Limit
    at: int
    amount: int
    settled: bool = False

    def counts(self, now: int) -> bool:
        match self.limit.window:
            case SlidingWindow(seconds):
                # "Kept in buckets of about a sixtieth. A bucket that the window covers in part counts whole."
                bucket = max(1, seconds * 1000 // 60)
                length = -(-seconds * 1000 // bucket)
                return self.at // bucket >= now // bucket - length
            case CalendarWindow(unit):
                return period(unit, self.at) == period(unit, now)
            case Lifetime():
                return True
            case Now():
                return not self.settled


def period(unit: CalendarUnit, at: int) -> tuple[int, ...]:
    moment = datetime.fromtimestamp(at / 1000, UTC)
    month = moment.year, moment.month
    return month if unit is CalendarUnit.MONTH else (*month, moment.day, moment.hour)


@dataclass
class Books:
    """All holds that were ever taken."""

    holds: list[ModelHold] = field(default_factory=list)

    def state(self, limit: Limit, now: int) -> tuple[int, int]:
        counting = [hold for hold in self.holds if hold.limit is limit and hold.counts(now)]
        used = sum(hold.amount for hold in counting if hold.settled)
        return used, sum(hold.amount for hold in counting if not hold.settled)

    def fits(self, limit: Limit, amount: int, now: int) -> bool:
        return amount == 0 or sum(self.state(limit, now)) + amount <= limit.hard

    def copy(self) -> Books:
        return Books([replace(hold) for hold in self.holds])


@dataclass
class ModelReservation:
    holds: list[ModelHold] = field(default_factory=list)
    ends: int = 0
    record: str = ""


class Model:
    """What the ledger has to answer."""

    def __init__(self) -> None:
        self.seen = 0
        self.books = Books()
        self.open: dict[str, ModelReservation] = {}
        self.dead: set[str] = set()
        self.journal: list[tuple[str, int]] = []

    def acquire(self, name: str, asked: dict[int, int], now: int, *, extend: bool) -> str:
        if name in self.dead or extend != (name in self.open):
            return "gone"
        self.seen = now
        wanted = [ModelHold(LIMITS[index], now, amount) for index, amount in asked.items()]
        if not all(self.books.fits(hold.limit, hold.amount, now) for hold in wanted):
            if extend:
                self.end(name, now, {})
            return "exceeded"
        reservation = self.open.setdefault(name, ModelReservation())
        reservation.holds += wanted
        reservation.ends = now + LEASE_MS
        reservation.record = f"{name} expired" + (", extended" if extend else "")
        self.books.holds += wanted
        return "granted"

    def end(self, name: str, now: int, amounts: dict[str, int], record: str | None = None) -> None:
        self.seen = now
        for hold in self.open.pop(name).holds:
            hold.amount, hold.settled = amounts.get(hold.limit.name, 0), True
        if record is not None:
            self.journal.append((record, now))


# The machine -------------------------------------------------------------------------------------


def hold_of(limit: Limit, amount: int) -> Hold:
    return Hold(Counter(limit.scope, limit.meter, limit.window, "ann"), Amount(amount), (limit,))


amounts = st.one_of(st.integers(1, 4), st.integers(1, 4), st.integers(0, 30), st.integers(0, 400))
asks = st.dictionaries(st.integers(0, len(LIMITS) - 1), amounts, min_size=1, max_size=5).map(
    lambda asked: {
        number: 1 if isinstance(LIMITS[number].window, Now) else amount for number, amount in asked.items()
    }
)
picks = st.integers(0, 999)


class Machine(RuleBasedStateMachine):
    def __init__(self, make_bench: Callable[[Clock], Bench]) -> None:
        super().__init__()
        self.clock, self.model = Clock(), Model()
        self.bench = make_bench(self.clock)
        self.bench.raw.flushall()
        self.runner = asyncio.Runner()
        self.held: dict[str, list[Hold]] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def now(self) -> int:
        """Never backwards."""
        return max(self.clock.now_ms, self.model.seen)

    def new_name(self) -> str:
        return f"r{len(self.held)}"

    def open_one(self, pick: int, asked: dict[int, int]) -> str:
        """One that is open; a new one if there is none, and if that was granted."""
        if not self.model.open:
            self.open(asked)
        names = sorted(self.model.open or self.held)
        return names[pick % len(names)]

    def any_one(self, pick: int) -> str:
        """Any that was ever opened or cancelled: what a worker does may come late, or twice."""
        names = sorted(self.held) or ["never opened"]
        self.held.setdefault(names[0], [])
        return names[pick % len(names)]

    def teardown(self) -> None:
        try:
            self.run(self.bench.audited())
            records = self.run(self.bench.records())
            assert [(record.record.decode(), record.at_ms) for record in records] == self.model.journal
            for name in sorted(self.model.open):
                self.settle(name, [7] * 20)
            self.the_books_are_the_same()
            self.run(self.bench.audited())
        finally:
            self.run(self.bench.close())
            self.runner.close()

    # Time ----------------------------------------------------------------------------------------

    @initialize(
        day=st.sampled_from(["2026-12-31 23:59:58", "2026-07-15 12:30:00", "2028-02-29 23:00:00"]),
        offset=st.integers(-2000, 2000),
    )
    def begin(self, day: str, offset: int) -> None:
        self.bench.at(day)
        self.clock.now_ms += offset

    @rule(step=st.sampled_from(STEPS_MS), more=st.integers(0, 20))
    def time_passes(self, step: int, more: int) -> None:
        self.clock.now_ms += step + more

    @rule(border=st.sampled_from([16, 1000, 60_000, 3_600_000]), offset=st.integers(-2, 2))
    def time_comes_to_a_border(self, border: int, offset: int) -> None:
        self.clock.now_ms += border - self.clock.now_ms % border + offset

    @rule(back=st.sampled_from([1, 999, 60_000, 4_000_000]))
    def the_clock_jumps_back(self, back: int) -> None:
        self.clock.now_ms -= back

    # Admissions ----------------------------------------------------------------------------------

    @rule(asked=asks)
    def open(self, asked: dict[int, int]) -> None:
        self.admit(self.new_name(), asked, extend=False)

    @rule(number=st.integers(0, len(LIMITS) - 1), over=st.sampled_from([0, 1]))
    def ask_for_all_that_is_left(self, number: int, over: int) -> None:
        left = LIMITS[number].hard - sum(self.model.books.state(LIMITS[number], self.now))
        self.admit(self.new_name(), {number: max(0, left) + over}, extend=False)

    @rule(asked=asks, more=asks)
    def open_and_extend(self, asked: dict[int, int], more: dict[int, int]) -> None:
        name = self.new_name()
        self.admit(name, asked, extend=False)
        self.admit(name, {number: more[number] for number in more.keys() - asked.keys()}, extend=True)

    @rule(pick=picks, asked=asks, more=asks)
    def extend(self, pick: int, asked: dict[int, int], more: dict[int, int]) -> None:
        name = self.open_one(pick, asked)
        taken = {hold.limits[0].name for hold in self.held[name]}
        self.admit(name, {n: more[n] for n in more if LIMITS[n].name not in taken}, extend=True)

    @rule(pick=picks, asked=asks)
    def admit_too_late_or_twice(self, pick: int, asked: dict[int, int]) -> None:
        name = self.any_one(pick)
        self.admit(name, asked, extend=name not in self.model.open and name not in self.model.dead)

    def admit(self, name: str, asked: dict[int, int], *, extend: bool) -> None:
        now, books = self.now, self.model.books.copy()
        expected = self.model.acquire(name, asked, now, extend=extend)
        holds = [hold_of(LIMITS[number], amount) for number, amount in asked.items()]
        held = self.held.setdefault(name, [])
        self.bench._held[name] = list(held)
        outcome = self.run((self.bench.extend if extend else self.bench.open)(name, *holds))
        if expected == "gone":
            assert outcome == ReservationGone()
            return
        held += holds
        assert isinstance(outcome, Granted if expected == "granted" else LimitsExceeded), expected
        for hold, state in zip(holds, outcome.states, strict=True):
            limit, wait = hold.limits[0], state.frees_in_ms
            assert (state.consumed, state.reserved) == books.state(limit, now)
            if (
                books.fits(limit, hold.amount, now)
                or hold.amount > limit.hard
                or isinstance(limit.window, Lifetime | Now)
            ):
                assert wait is None
            else:
                assert wait is not None
                assert books.fits(limit, hold.amount, now + wait)
                assert not books.fits(limit, hold.amount, now + wait - 1)

    # Ends ----------------------------------------------------------------------------------------

    @rule(pick=picks, asked=asks, used=st.lists(st.integers(0, 30), min_size=20, max_size=20))
    def settle_one(self, pick: int, asked: dict[int, int], used: list[int]) -> None:
        self.settle(self.open_one(pick, asked), used)

    @rule(pick=picks)
    def settle_any(self, pick: int) -> None:
        self.settle(self.any_one(pick), [1] * 20)

    def settle(self, name: str, amounts: list[int]) -> None:
        holds = self.bench._held[name] = list(self.held[name])
        used = {
            hold.limits[0].name: 0 if isinstance(hold.counter.window, Now) else amount
            for hold, amount in zip(holds, amounts, strict=False)
        }
        now, is_open = self.now, name in self.model.open
        assert self.run(self.bench.settle(name, *used.values())) == is_open
        if is_open:
            self.model.end(name, now, used, f"{name} settled")

    @rule(pick=picks, asked=asks)
    def release(self, pick: int, asked: dict[int, int]) -> None:
        name = self.open_one(pick, asked)
        self.bench._held[name] = self.held[name]
        now, is_open = self.now, name in self.model.open
        assert self.run(self.bench.release(name)) == is_open
        if is_open:
            self.model.end(name, now, {})

    @rule(pick=picks, unknown=st.booleans())
    def cancel(self, pick: int, unknown: bool) -> None:
        name = self.new_name() if unknown else self.any_one(pick)
        self.bench._held[name] = self.held.setdefault(name, [])
        self.run(self.bench.cancel(name))
        if name in self.model.open:
            self.model.end(name, self.now, {})
        else:
            self.model.dead.add(name)

    @rule(pick=picks, asked=asks, late=st.integers(0, 90_000))
    def renew(self, pick: int, asked: dict[int, int], late: int) -> None:
        name = self.open_one(pick, asked)
        self.clock.now_ms += late
        now, is_open = self.now, name in self.model.open
        assert self.run(self.bench.renew(name)) == is_open
        if is_open:
            self.model.seen = now
            self.model.open[name].ends = now + LEASE_MS

    @rule(pick=picks, asked=asks, offset=st.sampled_from([-1, 0, 0, 1]))
    def a_lease_runs_out(self, pick: int, asked: dict[int, int], offset: int) -> None:
        name = self.open_one(pick, asked)
        if name in self.model.open:
            self.clock.now_ms = max(self.clock.now_ms, self.model.open[name].ends + offset)
        self.sweep(name)

    @rule(pick=picks)
    def sweep_any(self, pick: int) -> None:
        self.sweep(self.any_one(pick))

    def sweep(self, name: str) -> None:
        now, reservation = self.now, self.model.open.get(name)
        is_due = reservation is not None and reservation.ends <= now
        assert self.run(self.bench.sweep(name)) == is_due
        if reservation is not None and is_due:
            reserved = {hold.limit.name: hold.amount for hold in reservation.holds}
            self.model.end(name, now, reserved, reservation.record)

    # Looks ---------------------------------------------------------------------------------------

    @rule()
    def the_books_are_the_same(self) -> None:
        due = {name for name, reservation in self.model.open.items() if reservation.ends <= self.clock.now_ms}
        assert set(self.run(self.bench.ledger.expired(self.bench.workspace, 1000))) == due
        for limit in LIMITS:
            found = self.run(self.bench.look(hold_of(limit, 0)))
            self.model.seen = self.now
            assert found == self.model.books.state(limit, self.now), limit.name


def test_the_scripts_decide_and_keep_books_as_the_model_does(
    make_bench: Callable[[Clock], Bench],
) -> None:
    run_state_machine_as_test(
        lambda: Machine(make_bench),
        settings=settings(
            max_examples=45,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # shrinking takes minutes: add Phase.shrink where a failure is not plain
        ),
    )
