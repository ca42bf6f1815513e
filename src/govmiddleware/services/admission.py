"""Admission: a call's holds are taken on the ledger, or the call is refused.

Limits over the whole deployment lie in another slot of the store. A reservation has a part there, under the same
id, that is taken first and given back where the workspace's limits then refuse: so there may be more reserved than
is used, for a moment, and never less.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

from msgspec.structs import replace

from govmiddleware.core.call import Call, Reservation
from govmiddleware.core.demand import Bound
from govmiddleware.core.events import LimitEvent
from govmiddleware.core.limits import Hold, Mode
from govmiddleware.core.ports import (
    AcquireOutcome,
    ApiTokenRevoked,
    Granted,
    JournalFull,
    Ledger,
    LimitsExceeded,
    Output,
    ReservationGone,
    Step,
)
from govmiddleware.core.refusals import Unauthenticated, Unavailable
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.errors import StoreLost, StoreUnavailable
from govmiddleware.metrics import Metrics
from govmiddleware.services import records
from govmiddleware.services.evaluations import evaluate, events_of, refusal_for
from govmiddleware.services.links import FindLink
from govmiddleware.services.upkeep import Upkeep

logger = logging.getLogger("govmiddleware.admission")


class Admission:
    """Takes holds for calls.

    Args:
        lease_ms: how long a reservation lives without renewal.
        price_version: goes into the record that is left for the case of a crash.
        tell: takes the crossings of soft and hard values.
        link: finds the link of a refusal.
    """

    def __init__(
        self,
        ledger: Ledger,
        upkeep: Upkeep,
        metrics: Metrics,
        *,
        lease_ms: int,
        price_version: str | None,
        tell: Callable[[LimitEvent], None],
        link: FindLink,
    ) -> None:
        self._ledger = ledger
        self._upkeep = upkeep
        self._metrics = metrics
        self._lease_ms = lease_ms
        self._price_version = price_version
        self._tell = tell
        self._link = link

    def take(
        self, call: Call, reservation: Reservation, holds: Sequence[Hold], step: Step, output: Output
    ) -> Awaitable[Granted]:
        """Take all holds, for as much output as all limits grant.

        Where limits in dry_run would have refused, `Call.would_refuse` says what, and they hold nothing. Of a
        refusal, the parts that the ledger did not release stay in the reservation.

        Raises a Refusal where the answer is no.
        """
        wide = [hold for hold in holds if hold.counter.is_deployment_wide]
        if wide or DEPLOYMENT_WORKSPACE in reservation.parts:
            return self._take_parts(call, reservation, wide, holds, step, output)
        return self._take_part(call, reservation, reservation.workspace, holds, step, output)

    async def _take_parts(
        self,
        call: Call,
        reservation: Reservation,
        wide: Sequence[Hold],
        holds: Sequence[Hold],
        step: Step,
        output: Output,
    ) -> Granted:
        own = [hold for hold in holds if not hold.counter.is_deployment_wide]
        shadow_output = output.most
        if wide:
            wide_step = step if DEPLOYMENT_WORKSPACE in reservation.parts else Step.OPEN
            ahead = min(reservation.ahead, output.most) if step is Step.GROW else 0
            if ahead < output.most or step is not Step.GROW:
                missing = Output(output.most - ahead, max(0, output.least - ahead))
                granted = await self._take_part(
                    call, reservation, DEPLOYMENT_WORKSPACE, wide, wide_step, missing
                )
                output = replace(output, most=ahead + granted.output)
                shadow_output = granted.shadow_output + (ahead if granted.shadow_output >= 0 else 0)
                if step is Step.GROW:
                    reservation.ahead += granted.output
            if shadow_output < 0:
                own = [hold for hold in own if not hold.counter.is_shadow]
        granted = await self._take_part(
            call, reservation, reservation.workspace, own, step, output, drop_shadows=shadow_output < 0
        )
        if wide and step is Step.GROW:
            reservation.ahead -= granted.output
        has_shadows = any(each.is_shadow for each in reservation.parts.get(DEPLOYMENT_WORKSPACE, ()))
        if granted.shadow_output < 0 and has_shadows and step is not Step.GROW:
            await self._take_part(
                call, reservation, DEPLOYMENT_WORKSPACE, (), Step.EXTEND, output, drop_shadows=True
            )
        return replace(granted, shadow_output=min(shadow_output, granted.shadow_output))

    async def _take_part(
        self,
        call: Call,
        reservation: Reservation,
        workspace: str,
        holds: Sequence[Hold],
        step: Step,
        output: Output,
        *,
        drop_shadows: bool = False,
    ) -> Granted:
        part = reservation.parts.setdefault(workspace, [])
        held = tuple(part)
        # From here on the reservation may have them, whether we hear of it or not.
        for hold in holds:
            if held or hold.raises:
                part += [counter for counter in hold.counters() if counter not in held]
            else:
                part.append(hold.counter)
        left = _reserved_by(call, step, output)
        record = records.expired_record(call, reservation.id, left, price_version=self._price_version)
        is_own = workspace == reservation.workspace
        try:
            with self._metrics.store_trip("acquire"):
                outcome = await self._ledger.acquire(
                    workspace,
                    reservation.id,
                    holds,
                    lease_ms=self._lease_ms,
                    expired_record=records.encode(record if is_own else records.deployment_record(record)),
                    step=step,
                    held=held,
                    output=output,
                    drop_shadows=drop_shadows,
                    api_token_id=call.require_principal().stored_id if is_own else None,
                )
        except BaseException as error:
            if step is Step.OPEN and isinstance(error, StoreLost):
                del reservation.parts[workspace]  # nothing was taken
            elif step is Step.OPEN:
                self._cancel(reservation, workspace)
            if isinstance(error, StoreUnavailable):
                raise store_unavailable(error) from error
            raise
        if is_own and isinstance(outcome, Granted):
            reservation.left = left
        if step is not Step.GROW:
            if isinstance(outcome, Granted):
                if drop_shadows or outcome.shadow_output < 0:
                    part[:] = [counter for counter in part if not counter.is_shadow]
            elif step is Step.OPEN or not isinstance(outcome, ApiTokenRevoked):
                del reservation.parts[workspace]  # the ledger has released it, or never had it
        return self._checked(call, workspace, holds, step, outcome)

    def _cancel(self, reservation: Reservation, workspace: str) -> None:
        """For an acquire that was not answered: the store may have taken it all the same, or take it yet."""
        counters = reservation.parts.pop(workspace)
        self._upkeep.resend(
            lambda: self._ledger.cancel(workspace, reservation.id, counters, lease_ms=self._lease_ms)
        )

    def _checked(
        self, call: Call, workspace: str, holds: Sequence[Hold], step: Step, outcome: AcquireOutcome
    ) -> Granted:
        match outcome:
            case Granted() | LimitsExceeded():
                if outcome.expired:
                    self._upkeep.sweep_soon(workspace, outcome.expired)
                evaluations = evaluate(holds, outcome.states)
                if step is not Step.GROW:
                    call.evaluations += evaluations
                for hold, state in zip(holds, outcome.states, strict=True):
                    if state.crossings:
                        for event in events_of(call, hold, state):
                            self._tell(event)
                if isinstance(outcome, LimitsExceeded):
                    refusal = refusal_for(evaluations)
                    refusal.link = self._link(call, refusal)
                    raise refusal
                if outcome.shadow_output < 0 and step is not Step.GROW:
                    call.would_refuse = refusal_for(evaluations, Mode.DRY_RUN)
                    self._metrics.would_refuse(call.would_refuse)
                return outcome
            case ApiTokenRevoked():
                raise Unauthenticated("This API token has been revoked.")
            case ReservationGone():
                raise Unavailable("The reservation of this call was lost.", code="store_unavailable")
            case JournalFull():
                raise Unavailable("The journal is full.", code="journal_full")
            case _:
                assert_never(outcome)


def _reserved_by(call: Call, step: Step, output: Output) -> Bound | None:
    """What is reserved once all of `output` is granted."""
    demand, most = call.demand, output.most
    if demand is None:
        return None
    if step is Step.GROW:
        most += call.reserved_output or 0
    return demand.whole if most == demand.output else demand.bound(most)


def store_unavailable(error: StoreUnavailable) -> Unavailable:
    """The refusal of a call whose limits cannot be asked."""
    if isinstance(error, StoreLost):
        return Unavailable(f"No call can pass: {error}.", code="store_lost")
    logger.warning("a call was refused, for the store does not answer: %s", error)
    return Unavailable(
        "The store that keeps the limits does not answer; try again shortly.", code="store_unavailable"
    )
