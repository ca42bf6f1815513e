"""Limits, the counters they stand on, and the holds one call asks of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import cached_property, lru_cache

import msgspec

from govmiddleware.core.money import LARGEST_LIMIT
from govmiddleware.core.scopes import PAIR, Scope, Subject, is_deployment_wide, value_in
from govmiddleware.core.windows import Lifetime, Now, SlidingWindow, Window, window_named


class Meter(StrEnum):
    """What a limit counts. Input includes cached, output includes reasoning; cost in nano-USD; wall clock
    in seconds since the first use."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOTAL_TOKENS = "total_tokens"
    COST_USD = "cost_usd"
    CONCURRENCY = "concurrency"
    WALL_CLOCK = "wall_clock"


class Mode(StrEnum):
    """What a limit does with a call that it has no room for; from the strictest to the mildest."""

    ENFORCED = "enforced"  # refuses it
    DRY_RUN = "dry_run"  # decides and counts as if it refused, and lets it pass
    SUGGEST = "suggest"  # says so, and counts it


MILDNESS = list(Mode)


_HEADER_SCOPES = frozenset({Scope.WORKSPACE, Scope.API_TOKEN, Scope.DEPLOYMENT})
_HEADER_METERS = frozenset({Meter.REQUESTS, Meter.CONCURRENCY})


class Limit(msgspec.Struct, frozen=True, cache_hash=True):
    """One rule: `scope` x `meter` x `window` with a hard value.

    Attributes:
        scope: as `core.scopes` has it: `user`, `tag:team`, `user+model`.
        value: the one value of the scope that it binds, or None for each value on its own counter.
        hard: in the meter's unit (nano-USD for cost_usd), at most 2^52.
        soft: from where on it warns, in the same unit; None: never.
        workspace: the one workspace that it binds, or None for each.
        is_default: it binds only where no limit with a `value` of the same scope, meter and window does.
        approvals_required: of how many people an override takes the yes, 1 or 2.
    """

    name: str
    scope: str
    meter: Meter
    window: Window
    hard: int
    value: str | None = None
    soft: int | None = None
    mode: Mode = Mode.ENFORCED
    workspace: str | None = None
    is_default: bool = False
    approvals_required: int = 1

    @property
    def refuses_as_rate(self) -> bool:
        """Whether a refusal is a rate limit (worth retrying soon) and not an exhausted budget."""
        return isinstance(self.window, SlidingWindow | Now)

    @property
    def known_from_headers(self) -> bool:
        """Whether RateLimit can check it, before the body is read."""
        return self.meter in _HEADER_METERS and _HEADER_SCOPES.issuperset(self.scope.split(PAIR))


_SHADOW = "dry_run:"


class Counter(msgspec.Struct, frozen=True, dict=True):
    """What the store counts. Named by scope, meter and window, never by the limit, so that editing,
    deleting and recreating a limit keeps its usage.

    Attributes:
        is_shadow: what limits in dry_run count on: fed only by the calls that they would have admitted.
    """

    scope: str
    meter: Meter
    window: Window
    value: str
    is_shadow: bool = False

    @cached_property
    def name(self) -> str:
        """`scope:meter:window:value`; the value comes last, as it may hold colons."""
        shadow = _SHADOW if self.is_shadow else ""
        return f"{shadow}{self.scope}:{self.meter}:{self.window.name}:{self.value}"

    @property
    def is_sliding(self) -> bool:
        return isinstance(self.window, SlidingWindow)

    @cached_property
    def is_deployment_wide(self) -> bool:
        return is_deployment_wide(self.scope)

    @cached_property
    def is_override(self) -> bool:
        """Whether it counts what was taken from an override, and not what a limit counts."""
        return self.scope == _OVERRIDE


class Raise(msgspec.Struct, frozen=True):
    """What an override that is in force adds to one limit, for one value of its scope.

    Most meters use an amount up: it has a counter of its own, from which is taken what calls use past the limit. A
    factor, and an amount of concurrency or wall clock, stand as long as they are in force; their counter is of 1, and a
    revocation uses that up.

    Attributes:
        id: the override's.
        workspace: where the limit's counter lies.
        scope, meter: the limit's when the override was asked for. One that has others since is another limit.
        until_ms: the end of its time, in Unix milliseconds.
        amount: in the meter's unit; None where `factor` is given.
        factor: what the limit's hard value is multiplied by.
    """

    id: str
    workspace: str
    limit: str
    scope: str
    meter: Meter
    value: str
    until_ms: int
    amount: int | None = None
    factor: Decimal | None = None

    @property
    def is_used_up(self) -> bool:
        """Whether what calls use past the limit is taken from it."""
        return self.amount is not None and self.meter not in (Meter.CONCURRENCY, Meter.WALL_CLOCK)

    @property
    def counter(self) -> Counter:
        return Counter(_OVERRIDE, self.meter if self.is_used_up else Meter.REQUESTS, Lifetime(), self.id)

    @property
    def size(self) -> int:
        """Of its counter: who adds so much to it leaves nothing of the override."""
        return self.amount if self.is_used_up and self.amount is not None else 1

    def adds_to(self, limit: Limit) -> int:
        """How much further than its hard value the limit goes, before anything is taken."""
        adds = int(limit.hard * self.factor) - limit.hard if self.factor is not None else self.amount or 0
        return min(adds, LARGEST_LIMIT)


_OVERRIDE = "override"
"""The scope of overrides' counters. No limit has it."""

_SCOPE_PART = r"(?:tag:[^:+]+|[^:+]+)"
_COUNTER_NAME = re.compile(
    rf"((?:dry_run:)?{_SCOPE_PART}(?:\+{_SCOPE_PART})?):([^:]+):([^:]+):(.*)", re.DOTALL
)


def split_counter_name(name: str) -> tuple[str, str, str, str]:
    """The scope (of a shadow with what it begins with), meter, window and value of `Counter.name`. Raises ValueError
    for what names no counter.

    >>> split_counter_name("dry_run:tag:team:cost_usd:month:a:b")
    ('dry_run:tag:team', 'cost_usd', 'month', 'a:b')
    """
    found = _COUNTER_NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} names no counter")
    scope, meter, window, value = found.groups()
    return scope, meter, window, value


def counter_named(name: str) -> Counter:
    """The inverse of `Counter.name`."""
    scope, meter, window, value = split_counter_name(name)
    is_shadow = scope.startswith(_SHADOW)
    return Counter(scope.removeprefix(_SHADOW), Meter(meter), window_named(window), value, is_shadow)


def is_counter_name(name: str) -> bool:
    """Whether it can be that of a counter."""
    found = _COUNTER_NAME.fullmatch(name)
    if found is None or found[2] not in list(Meter):
        return False
    try:
        window_named(found[3])
    except ValueError:
        return False
    return True


class Amount(msgspec.Struct, frozen=True):
    """What a call asks of a meter, in the meter's unit, as it grows with the output of each choice.

    Attributes:
        fixed: whatever the output.
        per_token: millionths of the unit for each token of output (for cost: femto-USD).
    """

    fixed: int
    per_token: int = 0

    def at(self, output: int) -> int:
        """With `output` tokens; rounded up."""
        return self.fixed + -(-output * self.per_token // 1_000_000)


class Hold(msgspec.Struct, frozen=True):
    """What one call asks of one counter, which `limits` share.

    Attributes:
        raises: the overrides that may be in force, in the order in which they are taken from: by limit, and of each
            the one first whose time ends first.
    """

    counter: Counter
    amount: Amount
    limits: tuple[Limit, ...]
    raises: tuple[Raise, ...] = ()

    @property
    def hard(self) -> int | None:
        """The least value of those limits that may say no; None where none may."""
        return min((limit.hard for limit in self.limits if limit.mode is not Mode.SUGGEST), default=None)

    def raises_of(self, limit: Limit) -> tuple[Raise, ...]:
        return tuple(each for each in self.raises if each.limit == limit.name)

    def counters(self) -> list[Counter]:
        """All that may be reserved on."""
        return [self.counter, *[each.counter for each in self.raises]] if self.raises else [self.counter]


def holds_for(limits: Iterable[Limit], subject: Subject, amounts: Mapping[Meter, Amount]) -> list[Hold]:
    """The holds that `limits` ask of a call: limits that share a counter share one hold. A limit whose scope the call
    has no value of (a model, where it calls none) does not bind it."""
    return [
        Hold(_counter(kind, value, is_shadow), amounts[kind.meter], found)
        for kind in _kinds(tuple(limits), subject["workspace"])
        if (value := subject.get(kind.scope) or value_in(kind.scope, subject)) is not None
        for is_shadow, found in (kind.by_counter(value) if value in kind.named else kind.of_others)
    ]


@lru_cache(maxsize=256)
def known_from_headers(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Those that RateLimit can check."""
    return tuple(limit for limit in limits if limit.known_from_headers)


class _Kind:
    """The limits of one workspace with the same scope, meter and window. Those in dry_run have counters of their own.

    Attributes:
        named: the values of the scope that limits name.
        of_others: as `by_counter`, of every other value.
    """

    def __init__(self, scope: str, meter: Meter, window: Window, limits: Sequence[Limit]) -> None:
        self.scope, self.meter, self.window = scope, meter, window
        self._limits = limits
        self.named = {limit.value for limit in limits if limit.value is not None}
        self.of_others = self.by_counter(None)

    def by_counter(self, value: str | None) -> list[tuple[bool, tuple[Limit, ...]]]:
        """The limits on each counter of a value that is named, by whether it is a shadow."""
        binding = [
            limit
            for limit in self._limits
            if limit.value in (None, value) and not (limit.is_default and value is not None)
        ]
        by_counter: dict[bool, list[Limit]] = {}
        for limit in binding:
            by_counter.setdefault(limit.mode is Mode.DRY_RUN, []).append(limit)
        return [(is_shadow, tuple(found)) for is_shadow, found in by_counter.items()]


@lru_cache(maxsize=1024)
def _kinds(limits: tuple[Limit, ...], workspace: str) -> tuple[_Kind, ...]:
    """Of the limits that bind a workspace: sorted out once, and not for each call."""
    by_kind: dict[tuple[str, Meter, Window], list[Limit]] = {}
    for limit in limits:
        if limit.workspace in (None, workspace):
            by_kind.setdefault((limit.scope, limit.meter, limit.window), []).append(limit)
    return tuple(_Kind(*kind, found) for kind, found in by_kind.items())


@lru_cache(maxsize=10_000)
def _counter(kind: _Kind, value: str, is_shadow: bool) -> Counter:
    """One object for each counter, which keeps its name."""
    return Counter(kind.scope, kind.meter, kind.window, value, is_shadow)
