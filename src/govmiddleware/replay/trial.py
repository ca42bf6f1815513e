"""A played exchange before the limits of a configuration, on a store of its own that lives as long as the replay."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from msgspec.structs import replace

from govmiddleware.app import Governance
from govmiddleware.core.call import Call, Progress
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.refusals import Evaluation, LimitRefusal, Refusal, Unavailable
from govmiddleware.errors import StoreUnavailable
from govmiddleware.replay.player import Played
from govmiddleware.services.reservations import Reservations
from govmiddleware.services.settlement import charge_for
from govmiddleware.settings import Settings

_CLEAR_EVERY = 1000
"""Exchanges. The journal of the store, which nobody reads, is emptied so often."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the limits make of an exchange.

    Attributes:
        refusal: what they would have answered.
        would_refuse: what those in dry_run would have answered, had they been enforced.
        spent: nano-USD that it would have been charged.
        was_cut: whether they would have ended its stream, or left it less output than it had.
    """

    evaluations: tuple[Evaluation, ...]
    refusal: Refusal | None
    would_refuse: LimitRefusal | None
    spent: int
    was_cut: bool = False


class Trial:
    """Asks the limits of `settings`, in the order of the recorded times."""

    def __init__(self, settings: Settings, data_dir: Path) -> None:
        self._now_ms = 0
        own = {
            "redis_url": "embedded",
            "data_dir": data_dir,
            "journal_url": None,
            "webhook_url": None,
            "webhook_secret": None,
        }
        self._governance = governance = Governance(
            settings.model_copy(update=own), clock=lambda: self._now_ms
        )
        self._reservations = Reservations(
            governance.ledger,
            governance.upkeep,
            governance.settlement_watch,
            governance.metrics,
            lease_seconds=settings.lease_seconds,
            clamp_min_output_tokens=settings.clamp_min_output_tokens,
            slice_output_tokens=settings.slice_output_tokens,
            price_version=governance.prices.version,
            sleep=self._sleep,
        )
        self._asked = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Self]:
        """Raises StoreUnavailable and ConfigurationError where the embedded store does not come up."""
        with tempfile.TemporaryDirectory(prefix="govmiddleware-replay-") as data_dir:
            trial = cls(settings, Path(data_dir))
            async with trial._governance.store():
                yield trial

    async def ask(self, played: Played, at: datetime) -> Verdict:
        """Raises StoreUnavailable."""
        self._now_ms = max(self._now_ms, round(at.timestamp() * 1000))
        call = _again(played.call)
        limits = tuple(self._governance.limits)
        from_headers = tuple(limit for limit in limits if limit.known_from_headers)
        try:
            async with self._reservations.hold(call, from_headers):
                if played.refusal is not None:
                    call.refusal = played.refusal
                else:
                    async with self._reservations.hold(call, limits, in_slices=True):
                        await _run(call, played)
        except Unavailable as error:
            raise StoreUnavailable(str(error)) from error
        except Refusal as error:
            call.refusal = error
        await self._clear_journal()
        spent = 0 if call.refusal else charge_for(call).cost
        refusal = None if played.refusal else call.refusal
        was_cut = call.usage is not None and call.usage != played.usage
        return Verdict(tuple(call.evaluations), refusal, call.would_refuse, spent, was_cut)

    async def _sleep(self, seconds: float) -> None:
        """A stream that waits for its rate: the clock goes on, nobody waits."""
        self._now_ms += round(seconds * 1000)

    async def _clear_journal(self) -> None:
        self._asked += 1
        if self._asked % _CLEAR_EVERY == 0:
            for workspace in await self._governance.journal.workspaces():
                await self._governance.journal.clear(workspace)


def _again(played: Call) -> Call:
    """The same request, as Estimate leaves it."""
    return Call(
        new_request_id(),
        played.protocol,
        played.method,
        played.path,
        model_call=True,
        principal=played.principal,
        attribution=played.attribution,
        model=played.model,
        provider=played.provider,
        stream=played.stream,
        price=played.price,
        find_price=played.find_price,
        estimated_input_tokens=played.estimated_input_tokens,
        demand=played.demand,
    )


async def _run(call: Call, played: Played) -> None:
    """What Meter would have seen: the recorded answer, or as much of it as the limits leave."""
    then, usage = played.call, played.usage
    call.progress, call.status, call.reading = Progress.COMPLETE, then.status, then.reading
    call.service_tier, call.model_served = then.service_tier, then.model_served
    call.delivered_output_tokens = then.delivered_output_tokens
    if then.usage is None or usage is None or call.bound is None:
        return
    most = call.bound.output_tokens if call.granted_output is not None else usage.output_tokens
    if call.grow is not None and not await call.grow(usage.output_tokens) and call.reserved is not None:
        call.was_cut = True
        most = min(most, call.reserved.output_tokens)
    call.usage = replace(usage, output_tokens=min(usage.output_tokens, most))
