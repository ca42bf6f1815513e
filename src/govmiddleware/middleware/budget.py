"""Budget: reserves the bound of a call before it is made, and settles what was used after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Call, Principal, Progress
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.money import usd_text
from govmiddleware.core.refusals import Refusal
from govmiddleware.errors import MissingPredecessor
from govmiddleware.middleware._enter import enter, name_caller
from govmiddleware.middleware._refuse import refuse
from govmiddleware.services.reservations import Reservations


class Budget:
    """Holds every limit that applies and is not held yet, around everything inside.

    Args:
        limits: all limits.
        principal: names the caller where no Authenticate stands outside.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        reservations: Reservations,
        limits: Sequence[Limit],
        principal: Callable[[Scope], Principal] | None = None,
    ) -> None:
        self.app = app
        self.reservations = reservations
        self.limits = tuple(limits)
        self.principal = principal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send = enter(scope, send)
        if call is None:
            await self.app(scope, receive, send)
            return
        try:
            name_caller(call, scope, self.principal, middleware="Budget")
            if call.model_call and call.bound is None:
                raise MissingPredecessor("Budget", "Estimate")
            async with self.reservations.hold(call, self.limits):
                self._announce(call)
                call.progress = Progress.DISPATCHED
                await self.app(scope, receive, send)
        except Refusal as refusal:
            if call.status is not None:
                raise  # it is the app's, and its answer has begun
            await refuse(call, refusal, scope, send)

    def _announce(self, call: Call) -> None:
        """The cost that was reserved, and what the tightest limit on money leaves after it."""
        if call.bound is None:
            return
        call.answer_headers.append((b"x-gov-estimated-cost-usd", usd_text(call.bound.cost).encode()))
        left = [
            evaluation.limit.hard - evaluation.projected
            for evaluation in call.evaluations
            if evaluation.limit.meter is Meter.COST_USD
        ]
        if left:
            call.answer_headers.append((b"x-gov-budget-remaining-usd", usd_text(max(0, min(left))).encode()))
