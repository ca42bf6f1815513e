"""Waiting for people: a call that budgets refuse asks for overrides, and waits for their decision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from govmiddleware.core.call import Call
from govmiddleware.core.demand import NOTHING
from govmiddleware.core.limits import Meter
from govmiddleware.core.money import NANO
from govmiddleware.core.overrides import Override, OverrideState, Person
from govmiddleware.core.refusals import BudgetExhausted, ClientClosed, Evaluation, Refusal
from govmiddleware.core.scopes import ANONYMOUS
from govmiddleware.errors import HistoryUnavailable, StoreUnavailable
from govmiddleware.services.overrides import OverrideRequest, Overrides
from govmiddleware.services.raises import Raises

logger = logging.getLogger("govmiddleware.override_wait")

LOOK_SECONDS = 1.0
"""How often a worker in which calls wait looks for decisions that others made."""

_MOST_WAITING = 100
"""Calls of one worker. Each holds a connection, and perhaps a body."""

_IN_FORCE_SECONDS = 3600
"""What a waiting call asks for: its caller may have left when it is decided, and come again."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """One call: the overrides that it has no yes to yet, and whether it got them all."""

    undecided: set[str]
    answer: asyncio.Future[bool]

    def heard(self, override_id: str, is_approved: bool) -> None:
        if override_id in self.undecided and not self.answer.done():
            self.undecided.discard(override_id)
            if not is_approved or not self.undecided:
                self.answer.set_result(is_approved)


class OverrideWait:
    """The calls of this worker that wait.

    Args:
        seconds: how long a call waits at most.
    """

    def __init__(self, overrides: Overrides, raises: Raises, *, seconds: float) -> None:
        self._overrides = overrides
        self._raises = raises
        self._seconds = seconds
        self._count = 0
        self._waiting: set[_Waiting] = set()
        overrides.on_changed.append(self._heard)

    async def is_granted(self, call: Call, refusal: BudgetExhausted) -> bool:
        """Ask on the caller's behalf for an override of each budget that has no room, and wait: whether each got a
        yes in time. The call must hold nothing meanwhile.

        Raises ClientClosed where the client leaves before.
        """
        if self._count >= _MOST_WAITING:
            return False
        self._count += 1
        try:
            asked = [
                await self._ask(call, failure)
                for failure in refusal.failures
                if not failure.limit.refuses_as_rate
            ]
        except (Refusal, HistoryUnavailable, StoreUnavailable) as error:
            logger.warning("a call does not wait, for no override could be asked for: %s", error)
            return False
        else:
            return await self._wait(call, asked)
        finally:
            self._count -= 1

    async def look(self) -> None:
        """For decisions that were made elsewhere. Raises StoreUnavailable."""
        if not (undecided := {each for waiting in self._waiting for each in waiting.undecided}):
            return
        try:
            found = await self._overrides.find(*undecided)
        except HistoryUnavailable as error:
            logger.warning("decisions that calls wait for cannot be looked for: %s", error)
            return
        if any(each.state is OverrideState.APPROVED and each.id not in self._raises for each in found):
            await self._raises.refresh()
        for override in found:
            self._heard(override)

    def _heard(self, override: Override) -> None:
        """A yes counts once this worker can tell the ledger of it."""
        match override.state:
            case OverrideState.REQUESTED:
                return
            case OverrideState.APPROVED if override.id not in self._raises:
                return
        for waiting in tuple(self._waiting):
            waiting.heard(override.id, override.state is OverrideState.APPROVED)

    async def _ask(self, call: Call, failure: Evaluation) -> Override:
        principal, user = call.require_principal(), call.attribution.user
        return await self._overrides.request_or_join(
            failure.limit,
            OverrideRequest(
                seconds=_IN_FORCE_SECONDS,
                reason=f"call {call.request_id} waits for it",
                amount=_missing(call, failure),
                value=failure.value,
                for_user=None if user in (ANONYMOUS, principal.user) else user,
            ),
            Person.of(principal),
        )

    async def _wait(self, call: Call, asked: Sequence[Override]) -> bool:
        waiting = _Waiting({each.id for each in asked}, asyncio.get_running_loop().create_future())
        watched: list[asyncio.Future[Any]] = [waiting.answer]
        if call.client_left is not None:
            watched.append(asyncio.ensure_future(call.client_left()))
        self._waiting.add(waiting)
        try:
            ended, _ = await asyncio.wait(watched, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(waiting)
            for each in watched[1:]:
                each.cancel()
        if waiting.answer in ended:
            return waiting.answer.result()
        if ended:
            raise ClientClosed("The client left while its call waited for an override.")
        return False


def _missing(call: Call, failure: Evaluation) -> Decimal:
    """What the whole call asks past the limit, in the unit that people write."""
    meter = failure.limit.meter
    if meter is Meter.WALL_CLOCK:  # which goes on
        return Decimal(failure.consumed - failure.limit.hard + _IN_FORCE_SECONDS)
    demand = call.demand or NOTHING
    missing = demand.amounts()[meter].at(demand.output) - failure.room
    return Decimal(missing) / NANO if meter is Meter.COST_USD else Decimal(missing)
