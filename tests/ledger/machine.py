"""A hypothesis state machine that leads the real scripts and the model through the same lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace
from tests.ledger.model import LEASE_MS, Model, State

from govmiddleware.core.adjustments import Action, Adjusted, Adjustment
from govmiddleware.core.history import History
from govmiddleware.core.limits import Amount, Counter, Hold, Limit, Meter, Mode, holds_for
from govmiddleware.core.ports import (
    NO_OUTPUT,
    Granted,
    LimitsExceeded,
    Output,
    ReservationGone,
    Settled,
    Step,
)
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Lifetime, Now, SlidingWindow, Window
from govmiddleware.ledger.adjustments import RedisAdjustments
from govmiddleware.services import records
from govmiddleware.services.records import Record
from govmiddleware.testing.clock import Clock

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

T = TypeVar("T")

HOUR, MONTH = CalendarWindow(CalendarUnit.HOUR), CalendarWindow(CalendarUnit.MONTH)
COST = 10**10
"""An amount of cost for each unit that the other meters count: so that all digits of a double are of use."""


def limit(name: str, meter: Meter, window: Window, hard: int, mode: Mode = Mode.ENFORCED) -> Limit:
    unit = COST if meter is Meter.COST_USD else 1
    return Limit(name, Scope.USER, meter, window, hard * unit, soft=hard * unit * 8 // 10, mode=mode)


LIMITS = [
    limit("second", Meter.REQUESTS, SlidingWindow(1), 20),
    limit("seven", Meter.TOTAL_TOKENS, SlidingWindow(7), 30),
    limit("minute", Meter.TOTAL_TOKENS, SlidingWindow(60), 40),
    limit("minute-dry", Meter.TOTAL_TOKENS, SlidingWindow(60), 30, Mode.DRY_RUN),
    limit("sixty", Meter.COST_USD, SlidingWindow(3600), 60),
    limit("hour", Meter.OUTPUT_TOKENS, HOUR, 60),
    limit("hour-hint", Meter.OUTPUT_TOKENS, HOUR, 20, Mode.SUGGEST),
    limit("month", Meter.COST_USD, MONTH, 200),
    limit("month-dry", Meter.COST_USD, MONTH, 90, Mode.DRY_RUN),
    limit("ever", Meter.TOTAL_TOKENS, Lifetime(), 300),
    limit("ever-dry", Meter.TOTAL_TOKENS, Lifetime(), 200, Mode.DRY_RUN),
    limit("slots", Meter.CONCURRENCY, Now(), 4),
    limit("slots-dry", Meter.CONCURRENCY, Now(), 2, Mode.DRY_RUN),
    limit("hour-long", Meter.WALL_CLOCK, HOUR, 600),
    limit("life-long", Meter.WALL_CLOCK, Lifetime(), 4000),
]
COUNTERS = sorted(
    {
        Counter(limit.scope, limit.meter, limit.window, "ann", is_shadow)
        for limit in LIMITS
        for is_shadow in (False, True)
    },
    key=lambda counter: counter.name,
)
NEVER = limit("never", Meter.REQUESTS, Lifetime(), 0)
NEVER_HOLD = Hold(Counter(NEVER.scope, NEVER.meter, NEVER.window, "ann"), Amount(1), (NEVER,))
LOOKS = [Hold(counter, Amount(0), (replace(NEVER, mode=Mode.SUGGEST),)) for counter in COUNTERS]
STEPS_MS = [0, 1, 15, 16, 17, 999, 1000, 1016, 1040, 5000, 59_999, 60_000, 61_000, 122_000, 1_800_000]
STEPS_MS += [3_600_000, 3_660_000, 7_400_000, 40_000_000, 2_700_000_000]

picks = st.integers(0, 999)
names = st.sets(st.sampled_from([limit.name for limit in LIMITS]), min_size=1, max_size=6)
sizes = st.one_of(st.integers(1, 5), st.integers(0, 30), st.integers(0, 400))
slopes = st.sampled_from([0, 0, 1, 333_333, 1_000_000, 2_500_000])
outputs = st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda pair: Output(pair[0], min(pair)))
asks = st.tuples(names, sizes, slopes, outputs)
percents = st.lists(st.sampled_from([0, 30, 100, 100, 170]), min_size=3, max_size=3)
Ask = tuple[set[str], int, int, Output]


def same(found: object, expected: object, what: object) -> None:
    assert found == expected, f"{what}: found {found}, expected {expected}"


class Machine(RuleBasedStateMachine):
    def __init__(self, make_bench: Callable[[Clock], Bench]) -> None:
        super().__init__()
        self.clock, self.model = Clock(), Model()
        self.bench = make_bench(self.clock)
        self.bench.raw.flushall()
        self.adjustments = RedisAdjustments(self.bench.redis, clock=self.clock)
        self.runner = asyncio.Runner()
        self.steps = self.named = 0
        self.limits = {limit.name: limit for limit in LIMITS}
        self.history: History | None = None
        self.asked: dict[str, list[Counter]] = {}
        """What each reservation may hold, as its worker knows it."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def now(self) -> int:
        """Never backwards."""
        return max(self.clock.now_ms, self.model.seen)

    def new_name(self) -> str:
        self.named += 1
        return f"r{self.named}"

    def record(self, kind: str, name: str | None, text: str) -> str:
        record = Record(kind=kind, reservation_id=name, workspace=self.bench.workspace, outcome=text)
        return records.encode(record).decode()

    def open_one(self, pick: int, ask: Ask) -> str:
        """One that is open; a new one if there is none, and if that was granted."""
        if not self.model.open_names():
            self.open(ask)
        names = self.model.open_names() or list(self.asked)
        return names[pick % len(names)]

    def any_one(self, pick: int) -> str:
        """Any that was ever opened or cancelled: what a worker does may come late, or twice."""
        self.asked.setdefault("never opened", [])
        return list(self.asked)[pick % len(self.asked)]

    def holds(self, ask: Ask) -> list[Hold]:
        names, size, slope, _ = ask
        amounts = {
            Meter.REQUESTS: Amount(1),
            Meter.TOTAL_TOKENS: Amount(size, slope),
            Meter.OUTPUT_TOKENS: Amount(0, slope),
            Meter.COST_USD: Amount(size * COST, slope * COST),
            Meter.CONCURRENCY: Amount(1),
            Meter.WALL_CLOCK: Amount(0),
        }
        limits = [limit for name, limit in self.limits.items() if name in names]
        return holds_for(limits, {"user": "ann", "workspace": self.bench.workspace}, amounts)

    def teardown(self) -> None:
        self.run(self.bench.close())
        self.runner.close()

    # Time and limits -----------------------------------------------------------------------------

    @initialize(
        day=st.sampled_from(["2012-02-29 23:00:00", "2013-07-15 12:30:00", "2014-12-31 23:59:58"]),
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

    @rule(number=st.integers(0, len(LIMITS) - 1), percent=st.sampled_from([0, 30, 90, 110, 300]))
    def a_limit_is_edited(self, number: int, percent: int) -> None:
        """Or deleted (0), and created anew by the next edit."""
        limit = LIMITS[number]
        self.limits.pop(limit.name, None)
        if percent:
            hard = max(1, limit.hard * percent // 100)
            self.limits[limit.name] = replace(limit, hard=hard, soft=hard // 2)

    @rule(number=st.integers(0, len(LIMITS) - 1), mode=st.sampled_from(list(Mode)))
    def a_limit_changes_its_mode(self, number: int, mode: Mode) -> None:
        self.limits[LIMITS[number].name] = replace(LIMITS[number], mode=mode)

    # Admissions ----------------------------------------------------------------------------------

    @rule(ask=asks)
    def open(self, ask: Ask) -> None:
        self.admit(self.new_name(), self.holds(ask), Step.OPEN, ask[3])

    @rule(number=st.integers(0, len(LIMITS) - 1), over=st.sampled_from([0, 1]))
    def ask_for_all_that_is_left(self, number: int, over: int) -> None:
        for hold in self.holds(({LIMITS[number].name}, 0, 0, NO_OUTPUT)):
            left = hold.limits[0].hard - sum(self.model.amounts(hold.counter, self.now))
            amount = 0 if hold.counter.meter is Meter.WALL_CLOCK else max(0, left) + over
            self.admit(self.new_name(), [replace(hold, amount=Amount(amount))], Step.OPEN, NO_OUTPUT)

    @rule(ask=asks, more=asks)
    def open_and_extend(self, ask: Ask, more: Ask) -> None:
        name = self.new_name()
        self.admit(name, self.holds(ask), Step.OPEN, ask[3])
        self.admit(name, self.not_asked(name, more), Step.EXTEND, more[3])

    @rule(pick=picks, ask=asks, more=asks, drop=st.booleans())
    def extend(self, pick: int, ask: Ask, more: Ask, drop: bool) -> None:
        name = self.open_one(pick, ask)
        holds = self.not_asked(name, more)
        if drop:
            holds = [hold for hold in holds if not hold.counter.is_shadow]
        self.admit(name, holds, Step.EXTEND, more[3], drop=drop)

    def not_asked(self, name: str, ask: Ask) -> list[Hold]:
        return [hold for hold in self.holds(ask) if hold.counter not in self.asked.get(name, ())]

    @rule(pick=picks, ask=asks, more=asks)
    def grow(self, pick: int, ask: Ask, more: Ask) -> None:
        name = self.open_one(pick, ask)
        self.admit(name, self.holds(more), Step.GROW, more[3])

    @rule(pick=picks, ask=asks, step=st.sampled_from(Step))
    def ask_too_late_or_twice(self, pick: int, ask: Ask, step: Step) -> None:
        name = self.any_one(pick)
        if (step is Step.OPEN) == self.model.is_open(name):
            self.admit(name, self.holds(ask), step, ask[3])

    @rule(ask=asks, arrives_late=st.booleans())
    def an_answer_is_lost(self, ask: Ask, arrives_late: bool) -> None:
        """The worker cancels, and does not know what comes to the store first."""
        name, holds = self.new_name(), self.holds(ask)
        if not arrives_late:
            self.admit(name, holds, Step.OPEN, ask[3])
        self.asked[name] = [hold.counter for hold in holds]
        self.cancel_it(name)
        if arrives_late:
            self.admit(name, holds, Step.OPEN, ask[3])

    def admit(
        self, name: str, holds: Sequence[Hold], step: Step, output: Output, *, drop: bool = False
    ) -> None:
        now, asked = self.now, self.asked.setdefault(name, [])
        due = self.model.due(now)
        record = self.record("outcome", name, f"expired after {step.value} at {now}")
        expected = self.model.acquire(name, holds, step, output, record, now, drop=drop)
        outcome = self.run(
            self.bench.ledger.acquire(
                self.bench.workspace,
                name,
                holds,
                lease_ms=LEASE_MS,
                expired_record=record.encode(),
                step=step,
                held=asked,
                output=output,
                drop_shadows=drop,
            )
        )
        asked += [hold.counter for hold in holds if hold.counter not in asked]
        if expected is None:
            assert outcome == ReservationGone()
            return
        assert isinstance(outcome, LimitsExceeded if expected.output < 0 else Granted), (outcome, expected)
        if isinstance(outcome, Granted):
            same((outcome.output, outcome.shadow_output), (expected.output, expected.shadow), holds)
        assert list(outcome.expired) == due[:4]
        for hold, found, state in zip(holds, outcome.states, expected.states, strict=True):
            crossings = tuple((crossing.limit, crossing.is_hard) for crossing in found.crossings)
            seen = State(found.consumed, found.reserved, found.asked, found.frees_in_ms, crossings)
            same(seen, state, hold)

    # Ends ----------------------------------------------------------------------------------------

    @rule(pick=picks, ask=asks, percents=percents)
    def settle_one(self, pick: int, ask: Ask, percents: list[int]) -> None:
        self.settle(self.open_one(pick, ask), percents)

    @rule(pick=picks, percents=percents, corrects=st.booleans())
    def settle_late_or_twice(self, pick: int, percents: list[int], corrects: bool) -> None:
        self.settle(self.any_one(pick), percents, corrects=corrects)

    @rule(pick=picks, ask=asks, percents=percents, again=st.booleans())
    def settle_after_the_sweep(self, pick: int, ask: Ask, percents: list[int], again: bool) -> None:
        name = self.open_one(pick, ask)
        self.a_lease_ends(name)
        self.sweep(name)
        self.settle(name, percents)
        self.settle(name, percents, corrects=True)
        if again:
            self.settle(name, percents, corrects=True)

    def settle(self, name: str, percents: Sequence[int], *, corrects: bool = False) -> None:
        """Each counter with a part of what is reserved there."""
        counters, now = self.asked[name], self.now
        reserved = self.model.reserved(name)
        used = {
            counter: 0
            if counter.meter in (Meter.CONCURRENCY, Meter.WALL_CLOCK)
            else reserved.get(counter, 9) * percents[number % len(percents)] // 100
            for number, counter in enumerate(counters)
        }
        is_swept = name in self.model.reservations and self.model.reservations[name].state == "swept"
        kind = "correction" if corrects and is_swept else "outcome"
        record = self.record(kind, name, f"settled at {now}")
        expected = self.model.settle(name, used, record, now, corrects=corrects)
        assert self.send_settlement(name, used, record, corrects=corrects) == expected

    def send_settlement(
        self, name: str, used: dict[Counter, int], record: str | None, *, corrects: bool = False
    ) -> Settled:
        return self.run(
            self.bench.ledger.settle(
                self.bench.workspace,
                name,
                list(used),
                {counter.name: amount for counter, amount in used.items()},
                None if record is None else record.encode(),
                corrects=corrects,
            )
        )

    @rule(pick=picks, ask=asks)
    def release(self, pick: int, ask: Ask) -> None:
        name = self.open_one(pick, ask)
        nothing = dict.fromkeys(self.asked[name], 0)
        expected = self.model.settle(name, nothing, None, self.now)
        assert self.send_settlement(name, nothing, None) == expected

    @rule(pick=picks, unknown=st.booleans())
    def cancel(self, pick: int, unknown: bool) -> None:
        self.cancel_it(self.new_name() if unknown else self.any_one(pick))

    def cancel_it(self, name: str) -> None:
        counters = self.asked.setdefault(name, [])
        self.model.cancel(name, self.now)
        self.run(self.bench.ledger.cancel(self.bench.workspace, name, counters, lease_ms=LEASE_MS))

    @rule(pick=picks, ask=asks, late=st.integers(0, 90_000))
    def renew(self, pick: int, ask: Ask, late: int) -> None:
        name = self.open_one(pick, ask)
        self.clock.now_ms += late
        expected = self.model.renew(name, self.now)
        assert self.run(self.bench.ledger.renew(self.bench.workspace, name, LEASE_MS)) == expected

    @rule(pick=picks, ask=asks, offset=st.sampled_from([-1, 0, 0, 1]))
    def a_worker_crashes(self, pick: int, ask: Ask, offset: int) -> None:
        name = self.open_one(pick, ask)
        self.a_lease_ends(name, offset)
        self.sweep(name)

    def a_lease_ends(self, name: str, offset: int = 0) -> None:
        if self.model.is_open(name):
            self.clock.now_ms = max(self.clock.now_ms, self.model.reservations[name].ends + offset)

    @rule(pick=picks)
    def sweep_any(self, pick: int) -> None:
        self.sweep(self.any_one(pick))

    def sweep(self, name: str) -> None:
        expected = self.model.sweep(name, self.now)
        assert self.run(self.bench.ledger.sweep(self.bench.workspace, name)) == expected

    # What people do ------------------------------------------------------------------------------

    @rule(
        action=st.sampled_from([Action.ADD, Action.RESET, Action.FORGET]),
        counters=st.sets(st.sampled_from(COUNTERS), min_size=1, max_size=4),
        amount=st.integers(0, 30),
        again=st.booleans(),
    )
    def adjust(self, action: Action, counters: set[Counter], amount: int, again: bool) -> None:
        self.adjust_it(action, counters, amount, again)

    def adjust_it(self, action: Action, counters: set[Counter], amount: int, again: bool) -> None:
        self.steps += 1
        now, record = self.now, self.record("adjustment", None, f"adjusted at {self.now}")
        if action is Action.FORGET:  # a budget's, which no call holds: what is forgotten nothing corrects
            counters -= {entry.counter for each in self.model.reservations.values() for entry in each.entries}
        counting = [counter for counter in COUNTERS if counter in counters and counter.window != Now()]
        amounts = {
            counter: amount
            * (COST if counter.meter is Meter.COST_USD else 1)
            * (counter.meter is not Meter.WALL_CLOCK)
            for counter in counting
        }
        adjustment = Adjustment(
            f"a{self.steps}", action, tuple(counting), tuple(amounts.values()), record.encode()
        )
        expected = self.model.adjust(action, amounts, record, now)
        for _ in range(1 + again):
            outcome = self.run(self.adjustments.adjust(self.bench.workspace, adjustment))
            assert isinstance(outcome, Adjusted)
            same(list(zip(outcome.used, outcome.changes, strict=True)), expected, adjustment)

    # Looks ---------------------------------------------------------------------------------------

    @rule()
    def the_audit_finds_nothing(self) -> None:
        records = self.run(self.bench.records())
        assert [(record.record.decode(), record.at_ms) for record in records] == self.model.journal
        self.run(self.bench.audited(self.history))

    @invariant()
    def the_counters_are_the_same(self) -> None:
        """Asked now and then, by a call that is refused, which leaves no trace."""
        self.steps += 1
        if self.steps % 4:
            return
        outcome = self.run(
            self.bench.ledger.acquire(
                self.bench.workspace, "look", [*LOOKS, NEVER_HOLD], lease_ms=1, expired_record=b""
            )
        )
        self.model.seen = self.now
        assert isinstance(outcome, LimitsExceeded)
        for look, state in zip(LOOKS, outcome.states, strict=False):
            seen = state.consumed, state.reserved
            same(seen, self.model.amounts(look.counter, self.now), look.counter.name)


def run_machine(
    make: Callable[[], RuleBasedStateMachine], *, lives: int, steps: int, fixed_seed: int | None = None
) -> None:
    """Raises AssertionError where the scripts and the model differ."""

    options = settings(
        max_examples=lives,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # shrinking takes minutes: add Phase.shrink where a failure is not plain
    )
    if fixed_seed is None:
        run_state_machine_as_test(make, settings=options)
    else:
        run_state_machine_as_test(seed(fixed_seed)(make), settings=settings(options, database=None))
