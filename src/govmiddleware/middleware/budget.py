"""Budget: reserves the bound of a call before it is made, and settles what was used after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Principal, Progress
from govmiddleware.core.limits import Limit
from govmiddleware.core.refusals import Refusal
from govmiddleware.errors import MissingPredecessor
from govmiddleware.middleware._announce import announcements
from govmiddleware.middleware._body import with_body_headers
from govmiddleware.middleware._enter import enter, name_caller
from govmiddleware.middleware._refuse import refuse
from govmiddleware.services.reservations import Reservations


class Budget:
    """Holds every limit that applies and is not held yet, around everything inside.

    Where a limit leaves a call less output than it asks for, the call is held to that.

    Args:
        limits: all limits, iterated for each call.
        principal: names the caller where no Authenticate stands outside.
        metered: whether a Meter stands inside, so that streams can reserve in slices.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        reservations: Reservations,
        limits: Iterable[Limit],
        principal: Callable[[Scope], Principal] | None = None,
        metered: bool = False,
    ) -> None:
        self.app = app
        self.reservations = reservations
        self.limits = limits
        self.principal = principal
        self.metered = metered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send = enter(scope, send)
        if call is None:
            await self.app(scope, receive, send)
            return
        try:
            if call.principal is None:
                name_caller(call, scope, self.principal, middleware="Budget")
            if call.model_call and call.demand is None:
                raise MissingPredecessor("Budget", "Estimate")
            async with self.reservations.hold(call, self.limits, in_slices=self.metered):
                if call.granted_output is not None and call.body is not None:
                    call.protocol.bound_output(call.body, call.granted_output)
                    scope = with_body_headers(scope, call.body)
                call.answer_headers += announcements(call)
                call.progress = Progress.DISPATCHED
                await self.app(scope, receive, send)
        except Refusal as refusal:
            if call.status is not None:
                raise  # it is the app's, and its answer has begun
            await refuse(call, refusal, scope, send)
