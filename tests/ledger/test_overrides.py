"""Overrides: what is past a limit is taken from them, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.ledger.conftest import LEASE
from tests.ledger.states import FREE, exceeded, granted

from govmiddleware.core.adjustments import Action, Adjustment
from govmiddleware.core.limits import Amount, Hold, Limit, Meter, Raise
from govmiddleware.core.ports import Granted, LimitsExceeded, Output, Settled, Step
from govmiddleware.core.windows import Lifetime
from govmiddleware.ledger import scripts
from govmiddleware.ledger.adjustments import RedisAdjustments

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

HOUR = 3_600_000


def raised(bench: Bench, hold: Hold, amount: int | None = None, *, id: str = "o1", factor: str | None = None,
           until: int = HOUR, limit: Limit | None = None) -> Hold:  # fmt: skip
    """The hold, with one override more."""
    limit = limit or hold.limits[0]
    each = Raise(
        id,
        bench.workspace,
        limit.name,
        limit.scope,
        limit.meter,
        hold.counter.value,
        bench.clock.now_ms + until,
        amount,
        None if factor is None else Decimal(factor),
    )
    return replace(hold, raises=(*hold.raises, each))


async def taken(bench: Bench, hold: Hold) -> list[tuple[int, int]]:
    """Used and reserved of each of its overrides."""
    unlimited = Limit("any", "", Meter.REQUESTS, Lifetime(), 1)
    return [await bench.look(Hold(each.counter, Amount(0), (unlimited,))) for each in hold.raises]


async def revoke(bench: Bench, hold: Hold) -> None:
    """As `services.overrides` does."""
    adjustments = RedisAdjustments(bench.redis, clock=bench.clock)
    for each in hold.raises:
        revocation = Adjustment(f"revoke {each.id}", Action.ADD, (each.counter,), (each.size,), b"revoked")
        await adjustments.adjust(bench.workspace, revocation)


async def test_what_is_past_the_limit_is_taken_from_the_override(bench: Bench) -> None:
    hold = raised(bench, bench.month(7, of=10), 5)
    assert granted(await bench.open("one", hold)) == [FREE]
    assert await taken(bench, hold) == [(0, 0)]
    granted(await bench.open("two", hold))
    assert (await bench.look(hold), await taken(bench, hold)) == ((0, 14), [(0, 4)])
    exceeded(await bench.open("three", hold))
    await bench.audited()


@pytest.mark.parametrize(("used", "charged"), [(7, 4), (6, 3), (3, 0), (0, 0), (9, 4)])
async def test_an_override_is_charged_what_was_used_past_the_limits_share(
    bench: Bench, used: int, charged: int
) -> None:
    hold = raised(bench, bench.month(7, of=10), 5)
    await bench.open("one", hold)
    await bench.open("two", hold)
    await bench.settle("two", used)
    assert (await bench.look(hold), await taken(bench, hold)) == ((used, 7), [(charged, 0)])
    await bench.settle("one", 7)
    assert await taken(bench, hold) == [(charged, 0)]
    await bench.audited()


@pytest.mark.parametrize("end", ["release", "cancel", "refused"])
async def test_what_ends_without_use_gives_the_override_back(bench: Bench, end: str) -> None:
    hold = raised(bench, bench.month(12, of=10), 5)
    await bench.open("one", hold)
    assert await taken(bench, hold) == [(0, 2)]
    if end == "refused":
        exceeded(await bench.extend("one", bench.lifetime(2, of=1)))
    else:
        await (bench.release("one") if end == "release" else bench.cancel("one"))
    assert (await bench.look(hold), await taken(bench, hold)) == ((0, 0), [(0, 0)])
    await bench.audited()


async def test_a_swept_hold_is_charged_whole_and_corrected_later(bench: Bench) -> None:
    hold = raised(bench, bench.month(12, of=10), 5)
    await bench.open("one", hold)
    bench.clock.advance(LEASE + 1)
    assert await bench.sweep("one")
    assert await taken(bench, hold) == [(2, 0)]
    await bench.audited()
    used = {hold.counter.name: 11}
    settled = await bench.ledger.settle(
        bench.workspace, "one", hold.counters(), used, b"corrected", corrects=True
    )
    assert settled is Settled.WHOLE
    assert (await bench.look(hold), await taken(bench, hold)) == ((11, 0), [(1, 0)])
    await bench.audited()


async def test_an_override_ends_by_the_stores_clock(bench: Bench) -> None:
    hold = raised(bench, bench.month(12, of=10), 5)
    bench.clock.advance(3600 - 0.001)
    granted(await bench.open("in time", hold))
    await bench.release("in time")
    bench.clock.advance(0.001)
    exceeded(await bench.open("late", hold))
    granted(await bench.open("within the limit", raised(bench, bench.month(10, of=10), 5, until=0)))


async def test_of_several_overrides_the_first_is_used_up_first(bench: Bench) -> None:
    hold = raised(bench, raised(bench, bench.month(14, of=10), 3), 5, id="o2")
    await bench.open("one", hold)
    assert await taken(bench, hold) == [(0, 3), (0, 1)]
    await bench.settle("one", 12)
    assert await taken(bench, hold) == [(2, 0), (0, 0)]
    await bench.open("two", raised(bench, raised(bench, bench.month(4, of=10), 3), 5, id="o2"))
    assert await taken(bench, hold) == [(2, 1), (0, 3)]
    await bench.audited()


async def test_limits_that_share_a_counter_are_raised_each_for_itself(bench: Bench) -> None:
    hold = bench.month(14, of=10)
    wider = replace(hold.limits[0], name="wider", hard=12)
    hold = replace(hold, limits=(*hold.limits, wider))
    exceeded(await bench.open("one", raised(bench, hold, 5)))
    both = raised(bench, raised(bench, hold, 5), 5, id="o2", limit=wider)
    granted(await bench.open("one", both))
    assert await taken(bench, both) == [(0, 4), (0, 2)]
    await bench.settle("one", 11)
    assert await taken(bench, both) == [(1, 0), (0, 0)]


async def test_a_revocation_leaves_nothing_even_of_what_comes_back(bench: Bench) -> None:
    hold = raised(bench, bench.month(12, of=10), 5)
    await bench.open("one", hold)
    await revoke(bench, hold)
    exceeded(await bench.open("two", raised(bench, bench.month(1, of=10), 5)))
    await bench.release("one")
    granted(await bench.open("within", bench.month(10, of=10)))
    exceeded(await bench.open("three", raised(bench, bench.month(1, of=10), 5)))
    await bench.audited()


async def test_a_factor_multiplies_the_limit_until_it_is_revoked(bench: Bench) -> None:
    hold = raised(bench, bench.month(1, of=5), factor="1.5")
    outcomes = [await bench.open(str(number), hold) for number in range(8)]
    assert [isinstance(outcome, Granted) for outcome in outcomes] == [True] * 7 + [False]
    assert (await bench.look(hold), await taken(bench, hold)) == ((0, 7), [(0, 0)])
    await revoke(bench, hold)
    await bench.release("0")
    exceeded(await bench.open("later", hold))
    await bench.audited()


async def test_more_slots_and_more_seconds_stand_while_they_are_in_force(bench: Bench) -> None:
    slots = raised(bench, bench.slot(of=1), 1)
    granted(await bench.open("one", slots))
    granted(await bench.open("two", slots))
    exceeded(await bench.open("three", slots))
    await bench.settle("one", 0)
    granted(await bench.open("three", slots))
    clock = bench.hold(0, of=10, window=Lifetime(), meter=Meter.WALL_CLOCK)
    granted(await bench.open("first", clock))
    bench.clock.advance(12)
    exceeded(await bench.open("late", clock))
    granted(await bench.open("longer", raised(bench, clock, 5, id="o2")))
    bench.clock.advance(3)
    exceeded(await bench.open("too late", raised(bench, clock, 5, id="o2")))
    await bench.audited()


async def test_an_override_of_a_rate_is_so_many_more_once(bench: Bench) -> None:
    hold = raised(bench, bench.sliding(1, of=3), 2)
    outcomes = [await bench.open(str(number), hold) for number in range(6)]
    assert [isinstance(outcome, Granted) for outcome in outcomes] == [True] * 5 + [False]
    for number in range(5):
        await bench.settle(str(number), 1)
    bench.clock.advance(62)
    outcomes = [await bench.open(f"again {number}", hold) for number in range(4)]
    assert [isinstance(outcome, Granted) for outcome in outcomes] == [True] * 3 + [False]


async def test_a_call_is_clamped_to_what_the_override_leaves(bench: Bench) -> None:
    hold = replace(bench.month(0, of=100), amount=Amount(10, 1_000_000))
    outcome = await bench.ledger.acquire(
        bench.workspace,
        "one",
        [raised(bench, hold, 50)],
        lease_ms=60_000,
        expired_record=b"",
        output=Output(500, 20),
    )
    assert isinstance(outcome, Granted)
    assert (outcome.output, outcome.states[0].left) == (140, (50,))
    assert await taken(bench, raised(bench, hold, 50)) == [(0, 50)]


async def test_a_stream_that_grows_takes_more_of_the_override(bench: Bench) -> None:
    hold = raised(bench, bench.month(8, of=10), 10)
    await bench.open("one", hold)
    for _ in range(2):
        grown = await bench.ledger.acquire(
            bench.workspace, "one", [raised(bench, bench.month(4, of=10), 10)], lease_ms=60_000,
            expired_record=b"", step=Step.GROW, held=hold.counters(),
        )  # fmt: skip
        assert isinstance(grown, Granted)
    assert (await bench.look(hold), await taken(bench, hold)) == ((0, 16), [(0, 6)])
    await bench.settle("one", 13)
    assert (await bench.look(hold), await taken(bench, hold)) == ((13, 0), [(3, 0)])
    await bench.audited()


async def test_an_override_worth_one_passes_one_of_a_hundred(bench: Bench) -> None:
    hold = raised(bench, bench.month(1, of=0), 1)
    outcomes = await asyncio.gather(*(bench.open(str(number), hold) for number in range(100)))
    assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, LimitsExceeded) for outcome in outcomes) == 99
    await bench.audited()


@dataclass
class Books:
    """What a limit and its override have to say: a reference."""

    hard: int
    amount: int
    used: int = 0
    charged: int = 0
    debt: int = 0
    held: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each open reservation, on the limit and of that on the override."""

    def is_admitted(self, asked: int) -> bool:
        return asked <= self.own_room + self.left

    def take(self, name: str, asked: int) -> None:
        on_limit, on_override = self.held.get(name, (0, 0))
        self.held[name] = on_limit + asked, on_override + max(0, asked - self.own_room)

    def settle(self, name: str, used: int) -> None:
        on_limit, on_override = self.held.pop(name)
        self.used += used
        self.debt += max(0, used - on_limit)
        self.charged += min(on_override, max(0, used - (on_limit - on_override)))

    @property
    def own_room(self) -> int:
        return max(0, self.hard - self.used - self.reserved[0])

    @property
    def left(self) -> int:
        return max(0, self.amount - self.charged - self.reserved[1])

    @property
    def reserved(self) -> tuple[int, int]:
        return sum(each[0] for each in self.held.values()), sum(each[1] for each in self.held.values())


numbers: Iterator[int] = iter(range(10**9))
MOVES = ["open", "open", "open", "grow", "settle", "release", "expire"]
Move = tuple[str, int, int, int]
"""What happens, how much is asked, which open reservation it is, and how much of it is used, in percent."""

moves = st.tuples(
    st.sampled_from(MOVES),
    st.integers(1, 12),
    st.integers(0, 99),
    st.integers(0, 150),
)


async def follow(bench: Bench, hard: int, amount: int, moves: Sequence[Move]) -> None:
    """Fails where the ledger and the reference differ."""
    user, books = f"user{next(numbers)}", Books(hard, amount)

    def asking(asked: int) -> Hold:
        return raised(bench, bench.lifetime(asked, of=hard, value=user), amount, id=user, until=10**10)

    for move, asked, pick, percent in moves:
        name = sorted(books.held)[pick % len(books.held)] if books.held else None
        if move == "open":
            name = f"call{next(numbers)}"
            admitted = books.is_admitted(asked)
            assert isinstance(await bench.open(name, asking(asked)), Granted) == admitted
            if admitted:
                books.take(name, asked)
        elif name is None:
            continue
        elif move == "grow":
            admitted = books.is_admitted(asked)
            grown = await bench.ledger.acquire(
                bench.workspace, name, [asking(asked)], lease_ms=60_000, expired_record=b"", step=Step.GROW,
                held=asking(0).counters(),
            )  # fmt: skip
            assert isinstance(grown, Granted) == admitted
            if admitted:
                books.take(name, asked)
        elif move == "settle":
            used = books.held[name][0] * percent // 100
            await bench.settle(name, used)
            books.settle(name, used)
        elif move == "release":
            await bench.release(name)
            books.settle(name, 0)
        else:
            bench.clock.advance(2 * LEASE)
            for each in sorted(books.held):
                assert await bench.sweep(each)
                books.settle(each, books.held[each][0])
        assert await bench.look(asking(0)) == (books.used, books.reserved[0])
        assert await taken(bench, asking(0)) == [(books.charged, books.reserved[1])]
        assert books.charged + books.reserved[1] <= amount
        assert books.used + books.reserved[0] <= hard + amount + books.debt


@given(hard=st.integers(0, 20), amount=st.integers(1, 15), moves=st.lists(moves, min_size=5, max_size=30))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)  # fmt: skip
async def test_whatever_happens_an_override_is_spent_once(
    bench: Bench, hard: int, amount: int, moves: list[Move]
) -> None:
    await follow(bench, hard, amount, moves)


MUTANTS = {
    "nothing is taken from the override": ("local excess = amount - limit.own", "local excess = 0"),
    "the override covers the whole hold": (
        "local excess = amount - limit.own",
        "local excess = amount",
    ),
    "what is reserved of the override is left": (
        "left = is_used_up and max(0, adds - taken)",
        "left = is_used_up and max(0, adds - at.used)",
    ),
    "debt eats the override": (
        "local own = max(0, hard - place.used - place.reserved)",
        "local own = hard - place.used - place.reserved",
    ),
    "the override is charged as held": (
        "charges[KEYS[i]] = max(0, min(amount, past[limit]))",
        "charges[KEYS[i]] = amount",
    ),
    "the override is charged all of its limit's debt": (
        "charges[KEYS[i]] = max(0, min(amount, past[limit]))",
        "charges[KEYS[i]] = max(0, past[limit])",
    ),
    "a slice forgets what the one before took": (
        "holds[i + 1] = grown(holds[i + 1], bucket, amount)",
        "holds[i + 1] = kind .. ' ' .. bucket .. ' ' .. text(amount)",
    ),
}


@pytest.mark.parametrize("bug", MUTANTS)
async def test_a_bug_in_the_scripts_is_caught(
    bug: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = MUTANTS[bug]
    found = {name: script for name, script in vars(scripts).items() if old in getattr(script, "source", "")}
    assert found, f"the scripts do not have {old!r}"
    for name, script in found.items():
        monkeypatch.setattr(scripts, name, scripts.Script(script.source.replace(old, new)))
    dice = random.Random(4)
    with pytest.raises(AssertionError):
        await follow_many(bench, dice)


async def follow_many(bench: Bench, dice: random.Random) -> None:
    for _ in range(60):
        moves = [
            (dice.choice(MOVES), dice.randint(1, 12), dice.randrange(100), dice.randint(0, 150))
            for _ in range(20)
        ]
        await follow(bench, dice.randint(0, 20), dice.randint(1, 15), moves)
