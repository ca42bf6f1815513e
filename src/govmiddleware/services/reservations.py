"""The life of a reservation: opened, extended, grown with a stream, and concluded when its request ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType

import msgspec

from govmiddleware.core.call import Call, Reservation
from govmiddleware.core.demand import NOTHING, growth
from govmiddleware.core.events import LimitEvent
from govmiddleware.core.limits import Limit, holds_for, known_from_headers
from govmiddleware.core.ports import Ledger, Output, Step
from govmiddleware.core.refusals import BudgetExhausted, LimitRefusal, RateLimited, Refusal
from govmiddleware.errors import StoreUnavailable
from govmiddleware.metrics import Metrics
from govmiddleware.services.admission import Admission, store_unavailable
from govmiddleware.services.calibration import Calibrator
from govmiddleware.services.conclusion import Conclusion
from govmiddleware.services.exposure import Exposure
from govmiddleware.services.links import FindLink
from govmiddleware.services.override_wait import OverrideWait
from govmiddleware.services.raises import Raises
from govmiddleware.services.settlement_watch import SettlementWatch
from govmiddleware.services.upkeep import Upkeep

logger = logging.getLogger("govmiddleware.reservations")

_LEAST_GROWTH = 16
"""Tokens of each choice. Where the limits have room for less, a stream ends rather than ask for each token."""

_LONGEST_PAUSE_SECONDS = 20.0
"""How long a stream waits for a rate that it has outrun before it is ended."""


class Reservations:
    """Holds amounts for requests on the ledger.

    Args:
        lease_seconds: how long a reservation lives without renewal.
        clamp_min_output_tokens: what must be left of a call's output for it to be worth making.
        slice_output_tokens: what a stream that is metered reserves of its output at a time; 0: all at once.
        price_version: goes into every record that has a price.
        tell: takes the crossings of soft and hard values.
        sleep: how a stream waits for its rate; for those who have a clock of their own.
        link: finds the link of a refusal.
        raises: the overrides in force.
        wait: for what budgets refuse; None: it is refused at once.
        calibrator: learns from what is settled.
    """

    def __init__(
        self,
        ledger: Ledger,
        upkeep: Upkeep,
        watch: SettlementWatch,
        metrics: Metrics,
        *,
        lease_seconds: float,
        clamp_min_output_tokens: int = 64,
        slice_output_tokens: int = 1024,
        price_version: str | None = None,
        tell: Callable[[LimitEvent], None] = lambda event: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        link: FindLink = lambda call, refusal: None,
        raises: Raises | None = None,
        wait: OverrideWait | None = None,
        calibrator: Calibrator | None = None,
    ) -> None:
        self._upkeep = upkeep
        self._wait = wait
        self._hold = self._take if wait is None else self._take_or_wait
        self._raises = raises
        self._exposure = Exposure(metrics)
        self._clamp_min = clamp_min_output_tokens
        self._slice = slice_output_tokens
        self._sleep = sleep
        self._admission = Admission(
            ledger,
            upkeep,
            metrics,
            lease_ms=round(lease_seconds * 1000),
            price_version=price_version,
            tell=tell,
            link=link,
        )
        self._conclusion = Conclusion(
            ledger, upkeep, watch, metrics, price_version=price_version, calibrator=calibrator
        )

    def hold(self, call: Call, limits: Iterable[Limit], *, in_slices: bool = False) -> Held:
        """Hold what `limits` ask of the call while the body of an `async with` runs.

        The first hold of a call opens its reservation, and settles or releases it at the end, however
        the end comes, unless `Call.conclude` did so before; further ones extend it. Where the limits have not
        room for all of the call's output, `Call.granted_output` says how much they leave it.

        Args:
            in_slices: whether somebody inside meters the answer as it passes, and has the reservation grow with
                it (`Call.grow`).

        Raises a Refusal where the answer is no: a LimitRefusal, Unauthenticated for a revoked API token,
        Unavailable for a store that does not answer.
        """
        return Held(self, call, limits, in_slices)

    async def first_refusal(self, call: Call, refusal: Refusal, limits: Iterable[Limit]) -> Refusal:
        """What answers a call whose opening was left to a `hold` inside (`Call.is_deferred`), and that was refused
        before it came there: it is held against those limits that are known from its headers as if it had been at
        once. Their refusal answers then, or that of a revoked API token, else the given one."""
        call.is_deferred = False
        try:
            reservation = await self.open(call, known_from_headers(tuple(limits)), in_slices=False)
        except Refusal as first:
            return first
        await self._upkeep.finish(self._conclusion.release(call, reservation))
        call.conclude = None
        return refusal

    async def open(self, call: Call, limits: tuple[Limit, ...], *, in_slices: bool) -> Reservation:
        """Open the call's reservation, for `close` to end. Raises as `hold`."""
        reservation = Reservation(call.request_id, call.require_principal().workspace)
        try:
            await self._hold(call, reservation, limits, Step.OPEN, in_slices)
        except BaseException:
            await self._upkeep.finish(self._conclusion.release(call, reservation))
            raise
        call.reservation = reservation
        call.conclude = partial(self._conclude, call, reservation)
        if call.parent is not None:
            call.parent.has_inner_calls = True
        self._upkeep.opened(reservation)
        return reservation

    async def extend(
        self, call: Call, reservation: Reservation, limits: tuple[Limit, ...], *, in_slices: bool
    ) -> None:
        """Hold further limits. Raises as `hold`."""
        await self._hold(call, reservation, limits, Step.EXTEND, in_slices)

    async def close(self, call: Call, reservation: Reservation, error: BaseException | None) -> None:
        """The end of the call, by `error` where it was ended by one."""
        if reservation.open:
            await self._conclude(call, reservation, error)
        self._exposure.ended(call)
        # Which hold the call as it holds them: garbage for the collector alone.
        call.conclude = call.grow = None

    def _conclude(
        self, call: Call, reservation: Reservation, error: BaseException | None = None
    ) -> Awaitable[None]:
        return self._upkeep.finish(self._conclusion.conclude(call, reservation, error))

    async def _take_or_wait(
        self,
        call: Call,
        reservation: Reservation,
        limits: tuple[Limit, ...],
        step: Step,
        in_slices: bool,
    ) -> None:
        """A call whose budgets are raised while it waits takes all its holds anew, as it gave back what it had."""
        assert self._wait is not None, "else nobody waits"
        reservation.limits += limits
        try:
            await self._take(call, reservation, limits, step, in_slices)
        except BudgetExhausted as refusal:
            try:
                await self._conclusion.give_back(call, reservation)
            except StoreUnavailable as error:
                raise store_unavailable(error) from error
            self._upkeep.closed(reservation)
            if not await self._wait.is_granted(call, refusal):
                raise
            call.evaluations.clear()
            call.would_refuse = None
            everything = tuple(dict.fromkeys(reservation.limits))
            await self._take(call, reservation, everything, Step.OPEN, in_slices)
            self._upkeep.opened(reservation)

    async def _take(
        self,
        call: Call,
        reservation: Reservation,
        limits: tuple[Limit, ...],
        step: Step,
        in_slices: bool,
    ) -> None:
        demand = call.demand or NOTHING
        holds = holds_for(limits, call.subject(), demand.amounts())
        if reservation.parts or call.parent or call.would_refuse:
            already = {*reservation.counters(), *call.counted_by_parent()}
            holds = [
                hold
                for hold in holds
                if hold.counter not in already and not (hold.counter.is_shadow and call.would_refuse)
            ]
        if step is Step.EXTEND and not holds and call.demand is None:
            return  # a call with a demand leaves it in the store all the same, for the case of a crash
        wanted = demand.output
        if in_slices and demand.grows and self._slice:
            wanted = min(wanted, self._slice)
        least = min(wanted, self._clamp_min) if demand.can_be_limited else wanted
        if self._raises is not None:
            holds = self._raises.applied(holds, reservation.workspace)
        granted = await self._admission.take(call, reservation, holds, step, Output(wanted, least))
        if wanted < demand.output:
            call.reserved_output = granted.output
            call.grow = lambda tokens: self._grow(call, reservation, limits, tokens)
            self._exposure.changed(call)
        elif granted.output < wanted:
            call.granted_output = granted.output
        if -1 < granted.shadow_output < granted.output:
            call.shadow_output = granted.shadow_output

    async def _grow(
        self, call: Call, reservation: Reservation, limits: tuple[Limit, ...], tokens: int
    ) -> bool:
        """See to it that `tokens` of output are reserved, all choices together. A stream that has outrun a rate
        waits for it, for a while."""
        demand = call.demand or NOTHING
        give_up = time.monotonic() + _LONGEST_PAUSE_SECONDS
        while call.reserved is not None and call.reserved.output_tokens < tokens:
            reserved = call.reserved_output or 0
            missing = -(-(tokens - call.reserved.output_tokens) // demand.choices)
            left = demand.output - reserved
            if left <= 0:
                return True  # past what it may generate: the provider's, or our counting's, doing
            most = min(left, max(missing, self._slice))
            shadows_ended = call.would_refuse is not None or call.shadow_output is not None
            holds = [
                hold
                for hold in holds_for(limits, call.subject(), growth(demand))
                if hold.amount.per_token and not (hold.counter.is_shadow and shadows_ended)
            ]
            if self._raises is not None:
                holds = self._raises.applied(holds, reservation.workspace)
            output = Output(most, min(most, _LEAST_GROWTH))
            try:
                granted = await self._admission.take(call, reservation, holds, Step.GROW, output)
            except Refusal as refusal:
                pause = (refusal.retry_after_ms or 0) / 1000 if isinstance(refusal, RateLimited) else 0
                if pause and time.monotonic() + pause <= give_up:
                    await self._sleep(pause)
                    continue
                if isinstance(refusal, LimitRefusal):
                    call.without_room = refusal.failures
                return False
            call.reserved_output = reserved + granted.output
            if granted.shadow_output < granted.output:
                call.shadow_output = reserved + max(0, granted.shadow_output)
            self._exposure.changed(call)
        return True


class Held(msgspec.Struct, eq=False):
    """An `async with` around a call; see `Reservations.hold`."""

    reservations: Reservations
    call: Call
    limits: Iterable[Limit]
    in_slices: bool
    opens: bool = False

    def __aenter__(self) -> Awaitable[object]:
        call, limits = self.call, tuple(self.limits)
        call.is_deferred = False
        if call.reservation is not None:
            return self.reservations.extend(call, call.reservation, limits, in_slices=self.in_slices)
        self.opens = True
        return self.reservations.open(call, limits, in_slices=self.in_slices)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reservation = self.call.reservation
        if self.opens and reservation is not None:
            await self.reservations.close(self.call, reservation, error)
