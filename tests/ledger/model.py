"""What the ledger has to decide, and what its books have to say: a reference to hold the scripts against.

Each amount that was ever taken is kept with its time, and all are added up anew for each question. Written from what
`core.ports`, `core.limits` and `core.windows` promise; of the package it uses nothing but types of values.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from govmiddleware.core.adjustments import Action
from govmiddleware.core.limits import Counter, Hold, Meter, Mode
from govmiddleware.core.ports import Output, Settled, Step
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Lifetime, Now, SlidingWindow

LEASE_MS = 60_000
NO_LIMIT = 2**60


@dataclass(eq=False)
class Entry:
    """An amount: reserved, and used once it is settled."""

    counter: Counter
    at: int
    amount: int
    used: int | None = None


@dataclass
class Reservation:
    state: str  # open, swept, dead (cancelled before it was opened)
    entries: list[Entry] = field(default_factory=list)
    ends: int = 0
    record: str = ""


@dataclass(frozen=True)
class State:
    """What an acquire says of one hold."""

    used: int
    reserved: int
    asked: int
    frees_in: int | None
    crossings: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Decision:
    """`output` is -1 where limits refuse, `shadow` where those in dry_run would."""

    output: int
    shadow: int
    states: tuple[State, ...]


def amount_at(hold: Hold, output: int) -> int:
    return hold.amount.fixed - (-output * hold.amount.per_token // 1_000_000)


def hard(hold: Hold) -> int:
    return min((limit.hard for limit in hold.limits if limit.mode is not Mode.SUGGEST), default=NO_LIMIT)


def span(counter: Counter, at: int) -> object:
    """Which window of the counter holds this moment: for its crossings, and for what resets."""
    match counter.window:
        case SlidingWindow() as window:
            return at // bucket_ms(window) // bucket_count(window)
        case CalendarWindow(unit=unit):
            moment = datetime.fromtimestamp(at / 1000, UTC)
            return moment.timetuple()[: {CalendarUnit.HOUR: 4, CalendarUnit.MONTH: 2}[unit]]
        case Now():
            return at // 60_000
        case _:
            return ()


def bucket_ms(window: SlidingWindow) -> int:
    return max(1, window.seconds * 1000 // 60)


def bucket_count(window: SlidingWindow) -> int:
    return -(-window.seconds * 1000 // bucket_ms(window))


def counts(entry: Entry, now: int) -> bool:
    match entry.counter.window:
        case SlidingWindow() as window:  # in buckets of a sixtieth, one that is covered in part counts whole
            return entry.at // bucket_ms(window) >= now // bucket_ms(window) - bucket_count(window)
        case Now():
            return entry.used is None
        case _:
            return span(entry.counter, entry.at) == span(entry.counter, now)


class Model:
    """One workspace."""

    def __init__(self) -> None:
        self.seen = 0
        self.entries: dict[Counter, list[Entry]] = defaultdict(list)
        self.reservations: dict[str, Reservation] = {}
        self.first_use: dict[tuple[Counter, object], int] = {}
        self.journaled_first_use: set[tuple[Counter, object]] = set()
        self.told: set[tuple[str, bool, Counter, object]] = set()
        self.journal: list[tuple[str, int]] = []

    def is_open(self, name: str) -> bool:
        return name in self.reservations and self.reservations[name].state == "open"

    def open_names(self) -> list[str]:
        return [name for name in self.reservations if self.is_open(name)]

    def due(self, now: int) -> list[str]:
        ends = {name: self.reservations[name].ends for name in self.open_names()}
        return sorted((name for name in ends if ends[name] <= now), key=lambda name: (ends[name], name))

    def reserved(self, name: str) -> dict[Counter, int]:
        """What a reservation holds."""
        held: dict[Counter, int] = defaultdict(int)
        for entry in self.reservations[name].entries if name in self.reservations else ():
            held[entry.counter] += entry.amount
        return held

    # What is in the counters ---------------------------------------------------------------------

    def amounts(self, counter: Counter, now: int) -> tuple[int, int]:
        """Used and reserved."""
        if counter.meter is Meter.WALL_CLOCK:
            return (now - self.first_use.get((counter, span(counter, now)), now)) // 1000, 0
        counting = [entry for entry in self.entries[counter] if counts(entry, now)]
        reserved = sum(entry.amount for entry in counting if entry.used is None)
        return sum(entry.used or 0 for entry in counting), reserved

    def largest(self, hold: Hold, least: int, most: int, now: int) -> int:
        """The largest output that fits; -1 where none does."""
        room = hard(hold) - sum(self.amounts(hold.counter, now))
        if hold.counter.meter is Meter.WALL_CLOCK:
            return most if room > 0 else -1
        outputs = range(most, least - 1, -1)
        return next((n for n in outputs if amount_at(hold, n) <= max(0, room)), -1)

    def frees_in(self, hold: Hold, amount: int, now: int) -> int | None:
        """When the amount fits; None where time alone does not bring it."""
        counter = hold.counter
        if amount > hard(hold) or isinstance(counter.window, Lifetime | Now):
            return None
        if isinstance(counter.window, CalendarWindow):
            days = range(now, now + 32 * 86_400_000)
            return bisect_left(days, True, key=lambda at: span(counter, at) != span(counter, now))
        width, count = bucket_ms(counter.window), bucket_count(counter.window)
        leave = sorted((entry.at // width + count + 1) * width for entry in self.entries[counter])
        return next(at - now for at in leave if sum(self.amounts(counter, at)) + amount <= hard(hold))

    # What the ledger does ------------------------------------------------------------------------

    def acquire(
        self,
        name: str,
        holds: Sequence[Hold],
        step: Step,
        output: Output,
        record: str,
        now: int,
        *,
        drop: bool,
    ) -> Decision | None:
        """None: the reservation is gone."""
        reservation = self.reservations.get(name)
        if self.is_open(name) != (step is not Step.OPEN) or (reservation and not self.is_open(name)):
            return None
        self.seen = now
        decision = self.decide(holds, step, output, now)
        self.told |= {
            (limit, is_hard, hold.counter, span(hold.counter, now))
            for hold, state in zip(holds, decision.states, strict=True)
            for limit, is_hard in state.crossings
        }
        if decision.output < 0:
            if step is Step.EXTEND:
                self.forget(name)
            return decision
        reservation = self.reservations.setdefault(name, Reservation("open"))
        reservation.ends, reservation.record = now + LEASE_MS, record
        if step is Step.EXTEND and (drop or decision.shadow < 0):
            self.drop(reservation, [entry for entry in reservation.entries if entry.counter.is_shadow])
        for hold, state in zip(holds, decision.states, strict=True):
            if decision.shadow >= 0 or not hold.counter.is_shadow:
                self.first_use.setdefault((hold.counter, span(hold.counter, now)), now)
                reservation.entries.append(Entry(hold.counter, now, state.asked))
                self.entries[hold.counter].append(reservation.entries[-1])
        return decision

    def decide(self, holds: Sequence[Hold], step: Step, output: Output, now: int) -> Decision:
        least = [self.least(hold, step, output) for hold in holds]
        fits = [self.largest(hold, low, output.most, now) for hold, low in zip(holds, least, strict=True)]
        each = list(zip(holds, least, fits, strict=True))
        granted = min([output.most, *(fit for hold, _, fit in each if not hold.counter.is_shadow)])
        shadow = min([granted, *fits])
        states = []
        for hold, low, fit in each:
            mine = shadow if hold.counter.is_shadow else granted
            asked = amount_at(hold, low if fit < 0 or mine < 0 else mine)
            used, reserved = self.amounts(hold.counter, now)
            crossings = self.crossings(hold, used + reserved + asked, asked, fit, mine >= 0, now)
            frees_in = self.frees_in(hold, asked, now) if fit < 0 else None
            states.append(State(used, reserved, asked, frees_in, crossings))
        return Decision(granted, shadow, tuple(states))

    def least(self, hold: Hold, step: Step, output: Output) -> int:
        """A sliding window frees by itself soon: what would fit into an empty one waits for that."""
        resets = not isinstance(hold.counter.window, SlidingWindow | Now)
        never = amount_at(hold, output.most) > hard(hold)
        can_be_clamped = resets or never or step is Step.GROW
        return output.least if can_be_clamped and hard(hold) < NO_LIMIT else output.most

    def crossings(
        self, hold: Hold, projected: int, asked: int, fit: int, admitted: bool, now: int
    ) -> tuple[tuple[str, bool], ...]:
        """Of a hold that is taken, or that is a reason not to take any."""
        is_clock = hold.counter.meter is Meter.WALL_CLOCK
        if not (fit < 0 or admitted) or not (asked or is_clock):
            return ()
        found = []
        for limit in hold.limits:
            is_hard = projected > limit.hard or (is_clock and projected == limit.hard)
            is_soft = admitted and limit.soft is not None and projected >= limit.soft
            key = (limit.name, is_hard, hold.counter, span(hold.counter, now))
            if (is_hard or is_soft) and key not in self.told:
                found.append((limit.name, is_hard))
        return tuple(found)

    def settle(
        self, name: str, used: dict[Counter, int], record: str | None, now: int, *, corrects: bool = False
    ) -> Settled:
        """Each counter's amounts are filled in the order they were taken; what is past them is the last one's."""
        reservation = self.reservations.get(name)
        if reservation is None or reservation.state == "dead":
            return Settled.NOT_OPEN
        if reservation.state == "swept" and not corrects:
            return Settled.SWEPT
        self.seen = now
        counters = dict.fromkeys(entry.counter for entry in reservation.entries)
        for counter in counters:
            left = used.get(counter, 0)
            entries = [entry for entry in reservation.entries if entry.counter == counter]
            for entry in entries:
                entry.used = left if entry is entries[-1] else min(left, entry.amount)
                left -= entry.used
        del self.reservations[name]
        if record is not None:
            self.journal.append((record, now))
            self.journal_first_uses(reservation)
        return Settled.WHOLE if len(counters) == len(used) else Settled.IN_PART

    def cancel(self, name: str, now: int) -> None:
        if self.is_open(name):
            self.seen = now
            self.forget(name)
        else:
            self.reservations.setdefault(name, Reservation("dead"))

    def renew(self, name: str, now: int) -> bool:
        if self.is_open(name):
            self.seen = now
            self.reservations[name].ends = now + LEASE_MS
        return self.is_open(name)

    def sweep(self, name: str, now: int) -> bool:
        if name not in self.due(now):
            return False
        self.seen = now
        reservation = self.reservations[name]
        for entry in reservation.entries:
            entry.used = entry.amount
        reservation.state = "swept"
        self.journal.append((reservation.record, now))
        self.journal_first_uses(reservation)
        return True

    def adjust(
        self, action: Action, amounts: dict[Counter, int], record: str, now: int
    ) -> list[tuple[int, int]]:
        """What each counter had used in its window, and what was added to it."""
        self.seen = now
        self.journal.append((record, now))
        return [self.change(action, counter, amount, now) for counter, amount in amounts.items()]

    def change(self, action: Action, counter: Counter, amount: int, now: int) -> tuple[int, int]:
        used, reserved = self.amounts(counter, now)
        is_clock = counter.meter is Meter.WALL_CLOCK
        if action is Action.ADD:
            self.first_use.setdefault((counter, span(counter, now)), now)
            self.journaled_first_use.add((counter, span(counter, now)))
        else:
            amount = 0 if is_clock else -used
            self.first_use.pop((counter, span(counter, now)), None)
            self.journaled_first_use.discard((counter, span(counter, now)))
        if action is Action.FORGET and not reserved and not isinstance(counter.window, Now):
            self.told = {each for each in self.told if each[2] != counter}
        if action is Action.ADD:
            self.entries[counter].append(Entry(counter, now, 0, used=amount))
        else:  # each amount is taken back where it stands
            for entry in self.entries[counter].copy():
                if entry.used and counts(entry, now):
                    self.entries[counter].append(Entry(counter, entry.at, 0, used=-entry.used))
        return used, amount

    def journal_first_uses(self, reservation: Reservation) -> None:
        keys = {(entry.counter, span(entry.counter, entry.at)) for entry in reservation.entries}
        self.journaled_first_use |= keys & self.first_use.keys()

    def forget(self, name: str) -> None:
        reservation = self.reservations.pop(name)
        self.drop(reservation, reservation.entries)

    def drop(self, reservation: Reservation, entries: list[Entry]) -> None:
        for entry in entries.copy():
            reservation.entries.remove(entry)
            self.entries[entry.counter].remove(entry)
