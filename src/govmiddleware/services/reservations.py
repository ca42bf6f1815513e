"""The life of a reservation: opened, extended, and settled or released when its request ends."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import assert_never

from govmiddleware.core.call import Call, Progress, Reservation
from govmiddleware.core.limits import Hold, Limit, holds_for
from govmiddleware.core.ports import (
    AcquireOutcome,
    ApiTokenRevoked,
    Granted,
    JournalFull,
    Ledger,
    LimitsExceeded,
    ReservationGone,
)
from govmiddleware.core.refusals import Unauthenticated, Unavailable
from govmiddleware.errors import StoreUnavailable
from govmiddleware.metrics import Metrics
from govmiddleware.services import records
from govmiddleware.services.evaluations import evaluate, refusal_for
from govmiddleware.services.settlement import Charge, charge_for, reserved_amounts
from govmiddleware.services.settlement_watch import SentSettlement, SettlementWatch
from govmiddleware.services.upkeep import Upkeep

logger = logging.getLogger("govmiddleware.reservations")


class Reservations:
    """Holds amounts for requests on the ledger.

    Args:
        lease_seconds: how long a reservation lives without renewal.
        price_version: goes into every record that has a price.
    """

    def __init__(
        self,
        ledger: Ledger,
        upkeep: Upkeep,
        watch: SettlementWatch,
        metrics: Metrics,
        *,
        lease_seconds: float,
        price_version: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._upkeep = upkeep
        self._watch = watch
        self._metrics = metrics
        self._lease_ms = round(lease_seconds * 1000)
        self._price_version = price_version

    @asynccontextmanager
    async def hold(self, call: Call, limits: Iterable[Limit]) -> AsyncIterator[None]:
        """Hold what `limits` ask of the call while the body of the `async with` runs.

        The first hold of a call opens its reservation, and settles or releases it at the end, however
        the end comes, unless `Call.conclude` did so before; further ones extend it.

        Raises a Refusal where the answer is no: a LimitRefusal, Unauthenticated for a revoked API token,
        Unavailable for a store that does not answer.
        """
        if call.reservation is not None:
            await self._extend(call, call.reservation, limits)
            yield
            return
        reservation = await self._open(call, limits)
        call.conclude = lambda: self._upkeep.finish(self._conclude(call, reservation))
        ended: BaseException | None = None
        try:
            yield
        except BaseException as error:
            ended = error
            raise
        finally:
            await self._upkeep.finish(self._conclude(call, reservation, ended))

    async def _open(self, call: Call, limits: Iterable[Limit]) -> Reservation:
        workspace = call.require_principal().workspace
        holds = _asked(call, limits)
        reservation = Reservation(call.request_id, workspace, list(holds))
        try:
            outcome = await self._acquire(call, reservation, holds, extend=None)
        except BaseException as error:
            # The store may have taken it all the same, or take it yet.
            self._upkeep.resend(
                lambda: self._ledger.cancel(workspace, reservation.id, holds, lease_ms=self._lease_ms)
            )
            if isinstance(error, StoreUnavailable):
                raise _store_unavailable(error) from error
            raise
        self._check(call, holds, outcome)
        call.reservation = reservation
        self._upkeep.opened(reservation)
        return reservation

    async def _extend(self, call: Call, reservation: Reservation, limits: Iterable[Limit]) -> None:
        already = {hold.counter for hold in reservation.holds}
        holds = [hold for hold in _asked(call, limits) if hold.counter not in already]
        if not holds and call.bound is None:
            return  # a call with a bound leaves it in the store all the same, for the case of a crash
        held = tuple(reservation.holds)
        # From here on the reservation may have them, whether we hear of it or not.
        reservation.holds += holds
        try:
            outcome = await self._acquire(call, reservation, holds, extend=held)
        except StoreUnavailable as error:
            raise _store_unavailable(error) from error
        if not isinstance(outcome, Granted | ApiTokenRevoked):
            reservation.open = False  # the ledger has released it, or it was swept
            self._upkeep.closed(reservation)
        self._check(call, holds, outcome)

    async def _acquire(
        self, call: Call, reservation: Reservation, holds: Sequence[Hold], extend: Sequence[Hold] | None
    ) -> AcquireOutcome:
        with self._metrics.store_trip("acquire"):
            return await self._ledger.acquire(
                reservation.workspace,
                reservation.id,
                holds,
                lease_ms=self._lease_ms,
                api_token_id=call.require_principal().stored_id,
                expired_record=records.encode(
                    records.expired_record(call, reservation.id, price_version=self._price_version)
                ),
                extend=extend,
            )

    def _check(self, call: Call, holds: Sequence[Hold], outcome: AcquireOutcome) -> None:
        match outcome:
            case Granted(states, expired):
                call.evaluations += evaluate(holds, states)
                self._upkeep.sweep_soon(call.require_principal().workspace, expired)
            case LimitsExceeded(states, expired):
                evaluations = evaluate(holds, states)
                self._upkeep.sweep_soon(call.require_principal().workspace, expired)
                call.evaluations += evaluations
                raise refusal_for(evaluations)
            case ApiTokenRevoked():
                raise Unauthenticated("This API token has been revoked.")
            case ReservationGone():
                raise Unavailable("The reservation of this call was lost.", code="store_unavailable")
            case JournalFull():
                raise Unavailable("The journal is full.", code="journal_full")
            case _:
                assert_never(outcome)

    async def _conclude(
        self, call: Call, reservation: Reservation, ended: BaseException | None = None
    ) -> None:
        """Settle what was dispatched, release what was not; once. Never raises StoreUnavailable: what the
        store does not take now is sent again, and the lease renewed until it does."""
        if not reservation.open:
            return
        reservation.open = False
        charge = self._charge(call, ended)
        holds = tuple(reservation.holds)
        amounts: dict[str, int] = {}
        record: bytes | None = None
        if charge is not None:
            amounts = {hold.counter.name: charge.amount(hold.counter.meter) for hold in holds}
            record = records.encode(
                records.outcome_record(call, charge, reservation.id, price_version=self._price_version)
            )

        async def settle() -> None:
            sent = time.monotonic()
            with self._metrics.store_trip("settle"):
                settled = await self._ledger.settle(
                    reservation.workspace, reservation.id, holds, amounts, record
                )
            self._upkeep.closed(reservation)
            if charge is not None and record is not None:
                self._watch.answered(
                    SentSettlement(
                        reservation.workspace,
                        reservation.id,
                        holds,
                        amounts,
                        record,
                        tokens=charge.usage.total_tokens,
                        cost=charge.cost,
                        opened=call.started,
                        sent=sent,
                    ),
                    settled,
                    count=lambda: self._metrics.settled(call, charge.usage, charge.cost, charge.settlement),
                )

        try:
            await settle()
        except StoreUnavailable:
            self._upkeep.resend(settle, reservation)

    def _charge(self, call: Call, ended: BaseException | None) -> Charge | None:
        """None for a call that was refused, or ended, before anything was dispatched."""
        never_left = call.refusal is not None or (ended is not None and call.bound is not None)
        if call.progress is Progress.NOT_DISPATCHED and never_left:
            return None
        crashed = isinstance(ended, Exception)
        return charge_for(call, crashed=crashed, cancelled=ended is not None and not crashed)


def _asked(call: Call, limits: Iterable[Limit]) -> list[Hold]:
    """What `limits` ask of the call, without what its parent holds for it."""
    by_parent = call.counted_by_parent()
    holds = holds_for(limits, call.subject(), reserved_amounts(call))
    return [hold for hold in holds if hold.counter not in by_parent]


def _store_unavailable(error: StoreUnavailable) -> Unavailable:
    logger.warning("a call was refused, for the store does not answer: %s", error)
    return Unavailable(
        "The store that keeps the limits does not answer; try again shortly.", code="store_unavailable"
    )
