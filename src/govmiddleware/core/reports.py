"""What usage reports add up, and the port that sums it where the history lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from govmiddleware.core.scopes import TAG

DIMENSIONS = ("model", "provider", "agent", "user", "session", "api_token", "workspace")
"""What usage can be grouped by, beside `tag:NAME`."""

PRICE_VERSION = "price_version"
"""A further one, for accounting."""

EXPECTED_DIMENSION = f"one of {', '.join(DIMENSIONS)} or tag:NAME"


def is_dimension(by: str) -> bool:
    """Whether usage can be grouped by it."""
    return by in DIMENSIONS or (by.startswith(TAG) and len(by) > len(TAG))


class Sums(msgspec.Struct):
    """What some records add up to. Money in nano-USD.

    Attributes:
        reserved: by calls that are not over.
        debt: the cost past what was reserved.
    """

    requests: int = 0
    refused: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    debt: int = 0
    reserved: int = 0

    def __iadd__(self, other: Sums) -> Sums:
        for name in SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


SUMMED = Sums.__struct_fields__


class Span(msgspec.Struct, frozen=True):
    """A time, perhaps cut into slices of one length. Unix milliseconds.

    Attributes:
        since, until: the end left out; None: without bound.
        first: where slice 0 begins.
        width: of a slice; None: all is slice 0.
    """

    since: int | None = None
    until: int | None = None
    first: int = 0
    width: int | None = None

    def slice_of(self, time_ms: int) -> int | None:
        """The number of the slice that it falls into; None where it lies outside."""
        if (self.since is not None and time_ms < self.since) or (
            self.until is not None and time_ms >= self.until
        ):
            return None
        return 0 if self.width is None else (time_ms - self.first) // self.width


Group = tuple[int, tuple[str | None, ...]]
"""A slice, and the values of what is grouped by; None where records have none."""


class Reports(Protocol):
    """Sums over the history, where it lies. Every call raises HistoryUnavailable."""

    async def sums(self, workspace: str, by: Sequence[str], span: Span) -> tuple[dict[Group, Sums], str]:
        """What the workspace's records up to `drained_to`, which is returned too, add up to."""
        ...

    async def counters_in_use(self, workspace: str, first_buckets: Mapping[str, int]) -> list[str]:
        """The names of the counters that something was used of.

        Args:
            first_buckets: the oldest bucket that counts, by what the names begin with.
        """
        ...
