"""Conclusion: what a reservation holds is settled or released, once, when its call ends."""

from __future__ import annotations

import time
from functools import partial

from govmiddleware.core.call import Call, Progress, Reservation
from govmiddleware.core.charge import Charge
from govmiddleware.core.ports import Ledger, Settled
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE, counts_by_model
from govmiddleware.errors import StoreUnavailable
from govmiddleware.metrics import Metrics
from govmiddleware.services import records
from govmiddleware.services.calibration import Calibrator
from govmiddleware.services.settlement import NOTHING_USED, charge_for, shadow_charge
from govmiddleware.services.settlement_watch import SentSettlement, SettlementWatch
from govmiddleware.services.upkeep import Upkeep


class Conclusion:
    """Settles calls.

    Args:
        price_version: goes into every record that has a price.
        calibrator: learns from what is charged.
    """

    def __init__(
        self,
        ledger: Ledger,
        upkeep: Upkeep,
        watch: SettlementWatch,
        metrics: Metrics,
        *,
        price_version: str | None,
        calibrator: Calibrator | None = None,
    ) -> None:
        self._ledger = ledger
        self._upkeep = upkeep
        self._watch = watch
        self._metrics = metrics
        self._price_version = price_version
        self._calibrator = calibrator

    async def conclude(
        self, call: Call, reservation: Reservation, ended: BaseException | None = None
    ) -> None:
        """Settle what was dispatched, release what was not; once. Never raises StoreUnavailable: what the
        store does not take now is sent again, and the lease renewed until it does.

        Args:
            ended: what ended the call before its time.
        """
        if not reservation.open:
            return
        if call.was_cut:
            self._metrics.cut_streams.inc()
        charge = _charge(call, ended)
        await self._end(call, reservation, charge)
        if charge is not None and self._calibrator is not None:
            self._calibrator.settled(call, charge)

    async def release(self, call: Call, reservation: Reservation) -> None:
        """Give back what a call holds that was refused. Raises no more than `conclude`."""
        await self._end(call, reservation, None)

    async def give_back(self, call: Call, reservation: Reservation) -> None:
        """As `release`, of a call that may open its reservation again. Raises StoreUnavailable, where it cannot be
        known what it holds."""
        for workspace in tuple(reservation.parts):
            await self._release(call, reservation, workspace)
            del reservation.parts[workspace]

    async def _end(self, call: Call, reservation: Reservation, charge: Charge | None) -> None:
        reservation.open = False
        call.charge = charge
        # Each record is made once: one that is sent again is known by being the same.
        unsettled = {
            workspace: None if charge is None else self._record(call, reservation, workspace, charge)
            for workspace in reservation.parts
        }
        try:
            await self._settle_all(call, reservation, unsettled, charge)
        except StoreUnavailable:
            again = partial(self._settle_all, call, reservation, unsettled, charge)
            self._upkeep.resend(again, reservation)

    async def _settle_all(
        self,
        call: Call,
        reservation: Reservation,
        unsettled: dict[str, bytes | None],
        charge: Charge | None,
    ) -> None:
        """Those parts of the reservation with their records, which are taken out of `unsettled` as they succeed."""
        # The deployment's part last: until then more is reserved than is used, never less.
        for workspace in sorted(unsettled, key=DEPLOYMENT_WORKSPACE.__eq__):
            record = unsettled[workspace]
            if charge is None or record is None:
                await self._release(call, reservation, workspace)
            else:
                await self._settle(call, reservation, workspace, record, charge)
            del unsettled[workspace]
        self._upkeep.closed(reservation)

    async def _release(self, call: Call, reservation: Reservation, workspace: str) -> None:
        counters = tuple(reservation.parts[workspace])
        with self._metrics.store_trip("settle"):
            released = await self._ledger.settle(workspace, reservation.id, counters, {}, None)
            if released is Settled.SWEPT:
                record = self._record(call, reservation, workspace, NOTHING_USED, corrects=True)
                await self._ledger.settle(workspace, reservation.id, counters, {}, record, corrects=True)

    async def _settle(
        self, call: Call, reservation: Reservation, workspace: str, record: bytes, charge: Charge
    ) -> None:
        counters = tuple(reservation.parts[workspace])
        used = shadow = charge.amounts()
        if call.shadow_output is not None:
            shadow = shadow_charge(call, charge).amounts()
        amounts = {
            counter.name: (shadow if counter.is_shadow else used)[counter.meter]
            for counter in counters
            if not (call.has_inner_calls and counts_by_model(counter.scope)) and not counter.is_override
        }
        sent = time.monotonic()
        with self._metrics.store_trip("settle"):
            settled = await self._ledger.settle(workspace, reservation.id, counters, amounts, record)
            if settled is Settled.SWEPT:
                record = self._record(call, reservation, workspace, charge, corrects=True)
                settled = await self._ledger.settle(
                    workspace, reservation.id, counters, amounts, record, corrects=True
                )
                self._metrics.late_settlements.inc()
        is_own = workspace == reservation.workspace
        self._watch.answered(
            SentSettlement(
                workspace,
                reservation.id,
                counters,
                amounts,
                record,
                tokens=charge.usage.total_tokens if is_own else 0,
                cost=charge.cost if is_own else 0,
                opened=call.started,
                sent=sent,
            ),
            settled,
            partial(self._metrics.settled, call, charge.usage, charge.cost, charge.settlement)
            if is_own
            else None,
        )

    def _record(
        self, call: Call, reservation: Reservation, workspace: str, charge: Charge, *, corrects: bool = False
    ) -> bytes:
        if corrects:
            record = records.correction_record(call, charge, reservation, price_version=self._price_version)
        else:
            record = records.outcome_record(call, charge, reservation.id, price_version=self._price_version)
        is_own = workspace == reservation.workspace
        return records.encode(record if is_own else records.deployment_record(record))


def _charge(call: Call, ended: BaseException | None) -> Charge | None:
    """None for a call that was refused, or ended, before anything was dispatched."""
    never_left = call.refusal is not None or (ended is not None and call.demand is not None)
    if call.progress is Progress.NOT_DISPATCHED and never_left:
        return None
    crashed = isinstance(ended, Exception)
    return charge_for(call, crashed=crashed, cancelled=ended is not None and not crashed)
