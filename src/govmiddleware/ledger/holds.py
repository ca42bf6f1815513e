"""What the scripts are told of holds and windows, and how `acquire.lua` answers of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from govmiddleware.core.limits import Counter, Hold, Limit, Meter, Mode
from govmiddleware.core.ports import CounterState, Crossing
from govmiddleware.core.windows import Lifetime, Now, SlidingWindow, Window

_REMEMBERED = 4096
"""Groups of limits that share a counter."""

_EVER = 2**63

_encode = msgspec.msgpack.Encoder().encode

WindowArguments = tuple[int | str, int | str, int | str]
"""The a, b, c of `locate` in `_windows.lua`."""


class HoldArguments:
    """Tells of holds, and remembers of limits what is the same for every call in one window.

    Limits are known again by being the same tuple: to compare them would take longer than to tell of them anew.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[Limit, ...], Window, int, int, tuple[object, ...]]] = {}
        """By the id of the limits: those, their window, from when to when in ms this holds, and what is told."""

    def encode(self, holds: Sequence[Hold], now_ms: int, first_raise: int) -> bytes:
        """As the last of `acquire.lua`'s ARGV; `first_raise`: where in KEYS the overrides' counters begin."""
        told: list[object] = []
        for hold in holds:
            amount, limits = hold.amount, hold.limits
            known = self._known.get(id(limits))
            if (
                known is not None
                and known[0] is limits
                and known[1] is hold.counter.window
                and known[2] <= now_ms < known[3]
            ):
                terms = known[4]
            else:
                terms = self._learn(hold, now_ms)
            if not hold.raises:
                told += (amount.fixed, amount.per_token, False, *terms)
                continue
            kind, check, _, *others = terms
            raised = {each.limit for each in hold.raises}
            hard = _hard(limit for limit in hold.limits if limit.name not in raised)
            overrides = _override_arguments(hold, first_raise)
            told += (amount.fixed, amount.per_token, overrides, kind, check, hard, *others)
            first_raise += len(hold.raises)
        return _encode(told)

    def _learn(self, hold: Hold, now_ms: int) -> tuple[object, ...]:
        limits, counter = hold.limits, hold.counter
        kind, window = window_arguments(counter, now_ms)
        hard = _hard(limits)
        check = "o" if hard is False else "d" if counter.is_shadow else "e"
        terms = (kind, check, hard, *_watch_arguments(limits), *window)
        begins, ends = (int(window[0]), int(window[1])) if kind in "cw" and window[1] else (0, _EVER)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[id(limits)] = (limits, counter.window, begins, ends, terms)
        return terms


def window_arguments(counter: Counter, now_ms: int) -> tuple[str, WindowArguments]:
    """The kind of a counter, and its window."""
    match counter.window:
        case SlidingWindow() as window:
            return "s", (window.bucket_ms, window.bucket_count, "")
        case Now():
            return "n", ("", "", "")
        case Lifetime():
            bounds: WindowArguments = ("0", "", "")
        case window:
            start, end, following = window.bounds(now_ms)
            bounds = (str(start), str(end), str(following))
    return "w" if counter.meter is Meter.WALL_CLOCK else "c", bounds


def _hard(limits: Iterable[Limit]) -> int | bool:
    """As `Hold.hard`, False for None."""
    return min((limit.hard for limit in limits if limit.mode is not Mode.SUGGEST), default=False)


def _watch_arguments(limits: Sequence[Limit]) -> tuple[int, str]:
    """From where on to look for crossings, and the limits to look at."""
    watched = [
        (limit.name, limit.hard + 1 if limit.soft is None else limit.soft, limit.hard) for limit in limits
    ]
    return min(min(soft, hard) for _, soft, hard in watched), " ".join(
        f"{name} {soft} {hard}" for name, soft, hard in watched
    )


def _override_arguments(hold: Hold, first_raise: int) -> list[list[object]]:
    """Of each limit with overrides its name, hard value, and the overrides."""
    limits = {limit.name: limit for limit in hold.limits}
    by_limit: dict[str, list[object]] = {}
    for key, each in enumerate(hold.raises, first_raise):
        limit = limits[each.limit]
        found = by_limit.setdefault(limit.name, [limit.name, limit.hard])
        found.append((key, each.adds_to(limit), each.until_ms, each.is_used_up))
    return list(by_limit.values())


def read_states(answer: Sequence[Any], count: int) -> tuple[CounterState, ...]:
    """Of so many holds: four numbers each, then remarks on some."""
    numbers = iter(answer[: 4 * count])
    states = [
        CounterState(used, reserved, asked, frees_in if frees_in > 0 else None)
        for used, reserved, asked, frees_in in zip(numbers, numbers, numbers, numbers, strict=True)
    ]
    for remark in answer[4 * count :]:
        index, *told = remark.decode().split(" ")
        parts = [each.split(":") for each in told]
        states[int(index)] = replace(
            states[int(index)],
            crossings=tuple(Crossing(part[1], part[0] == "h", part[2]) for part in parts if part[0] != "o"),
            left=tuple(int(part[1]) for part in parts if part[0] == "o"),
        )
    return tuple(states)
