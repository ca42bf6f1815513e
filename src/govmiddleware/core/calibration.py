"""How far true inputs lie above their estimates, and the bound that follows from it.

What is learned is the quantile of actual/estimate input tokens (a one-sided conformal bound: Vovk et al., *Algorithmic
Learning in a Random World*, 2005), with `GRACE` added to both, so that a few tokens of a short prompt do not stand
for a large share of a long one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, Self

import msgspec

GRACE = 32
"""Tokens added to the actual figure and to the estimate before they are compared."""

LEAST_OBSERVATIONS = 50
"""Before so many the shipped bound stands."""

_GROWTH = math.log(1.01)
"""Of a histogram's bucket over the one before it."""
_MOST = 4
"""A ratio of that and more is in the last bucket."""
LAST_BUCKET = math.ceil(math.log(_MOST) / _GROWTH)

SIZES = (128, 1024, 8192)
"""Estimates from which on prompts are a size larger. What templates and tools add is much of a short prompt and little of
a long one, whose bound should not answer for it."""


def size_of(estimate: int) -> int:
    """0 to 3."""
    return bisect_right(SIZES, estimate)


def bucket_of(estimate: int, actual: int) -> int:
    """0 holds all that the estimate covers, so that a request that is much less than it looks, as one with fields that
    nobody reads, weighs no more than one that was estimated well. One that is much more weighs as one of four times."""
    expected = estimate + GRACE
    ratio = min(max(0, actual) + GRACE, _MOST * expected) / expected
    # Rounded, or a ratio that is an edge could lie behind it.
    return max(0, math.ceil(round(math.log(ratio) / _GROWTH, 9)))


class Learned(msgspec.Struct, frozen=True):
    """What the observations in one histogram come to.

    Attributes:
        ratio: the quantile that was asked for, at most 1 % above it; 1 at least.
        trust: 0 to 1: how far it stands in place of what is shipped.
    """

    ratio: float
    trust: float

    def bound(self, estimate: int, *, shipped: int, most: Callable[[], int]) -> int:
        """Input tokens to reserve: the estimate at least, twice the shipped bound at most.

        Args:
            shipped: the bound without anything learned.
            most: tells what the prompt cannot exceed, where that matters.
        """
        learned = math.ceil(self.ratio * (estimate + GRACE)) - GRACE
        if learned <= shipped:
            return math.ceil(learned + (shipped - learned) * (1 - self.trust))
        return min(learned, 2 * shipped, max(shipped, most()))


class Ratios:
    """A histogram of what was observed, in buckets that grow by 1 %. Old observations fade as new ones come.

    Args:
        weights: by bucket.
    """

    def __init__(self, weights: Mapping[int, float] | None = None) -> None:
        self.weights = dict(weights or {})

    @classmethod
    def together(cls, several: Iterable[Ratios]) -> Self:
        """As if one had seen what all have."""
        merged = cls()
        for each in several:
            merged._add(each)
        return merged

    @property
    def total(self) -> float:
        return sum(self.weights.values())

    def observe(self, estimate: int, actual: int) -> None:
        bucket = bucket_of(estimate, actual)
        self.weights[bucket] = self.weights.get(bucket, 0) + 1

    def learn(self, news: Ratios, coverage: float) -> None:
        """Add what came since; of what was there before, no more is kept than `coverage` takes to show."""
        room = max(0.0, _memory(coverage) - news.total)
        fade = min(1.0, room / self.total) if self.total else 1.0
        self.weights = {
            bucket: faded for bucket, weight in self.weights.items() if (faded := weight * fade) > 1e-3
        }
        self._add(news)

    def learned(self, coverage: float) -> Learned | None:
        """None where too little was observed yet."""
        total = self.total
        if total < LEAST_OBSERVATIONS:
            return None
        # Of n + 1 that are alike the next is as likely the largest as any other. Where the quantile would lie behind
        # all that was seen, trust makes up for what was not.
        wanted = min(total, coverage * (total + 1))
        seen = 0.0
        for bucket in sorted(self.weights):
            seen += self.weights[bucket]
            if seen >= wanted - 1e-6:
                break
        return Learned(math.exp(bucket * _GROWTH), trust=total / (total + 0.1 / (1 - coverage)))

    def _add(self, other: Ratios) -> None:
        for bucket, weight in other.weights.items():
            self.weights[bucket] = self.weights.get(bucket, 0) + weight


def _memory(coverage: float) -> float:
    """Observations after which old ones fade: ten of them lie above the quantile."""
    return 10 / (1 - coverage)


class CalibrationStore(Protocol):
    """Keeps what workers have learned, by workspace and field, each worker's part of it merged into the others'.
    Raises StoreUnavailable."""

    async def read(self, workspace: str) -> Mapping[str, bytes]: ...

    async def replace(
        self, workspace: str, seen: Mapping[str, bytes | None], changed: Mapping[str, bytes]
    ) -> bool:
        """Put what changed, if all of it still is as it was seen; else nothing, and False."""
        ...
