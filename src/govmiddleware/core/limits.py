"""Limits, the counters they stand on, and the holds one call asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from govmiddleware.core.windows import Now, SlidingWindow, Window


class Scope(StrEnum):
    """What a limit counts over: one counter for each value of it."""

    WORKSPACE = "workspace"
    API_TOKEN = "api_token"
    USER = "user"
    SESSION = "session"
    AGENT = "agent"
    MODEL = "model"
    PROVIDER = "provider"


class Meter(StrEnum):
    """What a limit counts. Input includes cached, output includes reasoning; cost in nano-USD."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOTAL_TOKENS = "total_tokens"
    COST_USD = "cost_usd"
    CONCURRENCY = "concurrency"


KNOWN_FROM_HEADERS = (
    frozenset({Scope.WORKSPACE, Scope.API_TOKEN}),
    frozenset({Meter.REQUESTS, Meter.CONCURRENCY}),
)
"""Scopes and meters that a limit must have for RateLimit to check it before the body is read."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One rule: `scope` x `meter` x `window` with a hard value.

    Attributes:
        value: the one value of the scope that it binds, or None for each value on its own counter.
        hard: in the meter's unit (nano-USD for cost_usd), at most 2^52.
    """

    name: str
    scope: Scope
    meter: Meter
    window: Window
    hard: int
    value: str | None = None

    @property
    def refuses_as_rate(self) -> bool:
        """Whether a refusal is a rate limit (worth retrying soon) and not an exhausted budget."""
        return isinstance(self.window, SlidingWindow | Now)

    @property
    def known_from_headers(self) -> bool:
        scopes, meters = KNOWN_FROM_HEADERS
        return self.scope in scopes and self.meter in meters


@dataclass(frozen=True, slots=True)
class Counter:
    """What the store counts. Named by scope, meter and window, never by the limit, so that editing,
    deleting and recreating a limit keeps its usage."""

    scope: Scope
    meter: Meter
    window: Window
    value: str

    @property
    def name(self) -> str:
        """`scope:meter:window:value`; the value comes last, as it may hold colons."""
        return f"{self.scope}:{self.meter}:{self.window.name}:{self.value}"


@dataclass(frozen=True, slots=True)
class Hold:
    """What one call asks of one counter: `amount`, where `hard` is the strictest of `limits`."""

    counter: Counter
    amount: int
    limits: tuple[Limit, ...]

    @property
    def hard(self) -> int:
        return min(limit.hard for limit in self.limits)


Subject = Mapping[Scope, str]
"""The value of each scope for one call."""


def holds_for(limits: Iterable[Limit], subject: Subject, amounts: Mapping[Meter, int]) -> list[Hold]:
    """The holds that `limits` ask of a call: limits that share a counter share one hold. A limit whose
    scope the call has no value of (a model, where it calls none) does not apply."""
    by_counter: dict[Counter, list[Limit]] = {}
    for limit in limits:
        value = subject.get(limit.scope)
        if value is not None and limit.value in (None, value):
            counter = Counter(limit.scope, limit.meter, limit.window, value)
            by_counter.setdefault(counter, []).append(limit)
    return [Hold(counter, amounts[counter.meter], tuple(found)) for counter, found in by_counter.items()]
