"""RateLimit: request windows and concurrency, by what the headers tell, before the body is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Principal
from govmiddleware.core.limits import Limit
from govmiddleware.core.refusals import Refusal
from govmiddleware.middleware._client import watch_client
from govmiddleware.middleware._enter import enter, name_caller
from govmiddleware.middleware._refuse import refuse
from govmiddleware.services.reservations import Reservations


class RateLimit:
    """Holds the limits on requests and concurrency of a workspace or API token.

    Args:
        limits: all limits, iterated for each call; those that need the body are left to Budget.
        principal: names the caller where no Authenticate stands outside.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        reservations: Reservations,
        limits: Iterable[Limit],
        principal: Callable[[Scope], Principal] | None = None,
    ) -> None:
        self.app = app
        self.reservations = reservations
        self.limits = limits
        self.principal = principal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send = enter(scope, send)
        if call is None:
            await self.app(scope, receive, send)
            return
        try:
            name_caller(call, scope, self.principal, middleware="RateLimit")
            receive = watch_client(call, receive)
            limits = (limit for limit in self.limits if limit.known_from_headers)
            async with self.reservations.hold(call, limits):
                await self.app(scope, receive, send)
        except Refusal as refusal:
            if call.status is not None:
                raise  # it is the app's, and its answer has begun
            await refuse(call, refusal, scope, send)
