"""RateLimit: request windows and concurrency, by what the headers tell, before the body is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Principal
from govmiddleware.core.limits import Limit, known_from_headers
from govmiddleware.core.refusals import Refusal
from govmiddleware.middleware._client import watch_client
from govmiddleware.middleware._enter import enter, name_caller
from govmiddleware.middleware._refuse import refuse
from govmiddleware.services.reservations import Reservations

_SMALL_BYTES = 16_384
"""A body that is read and judged in less time than a trip to the store takes."""


class RateLimit:
    """Holds the limits on requests and concurrency of a workspace or API token.

    Args:
        limits: all limits, iterated for each call; those that need the body are left to Budget.
        principal: names the caller where no Authenticate stands outside.
        defers: whether a Budget inside takes these limits too where the body is small, in one trip to the store. Where
            a rate and a budget both refuse such a call, the budget answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        reservations: Reservations,
        limits: Iterable[Limit],
        principal: Callable[[Scope], Principal] | None = None,
        defers: bool = False,
    ) -> None:
        self.app = app
        self.reservations = reservations
        self.limits = limits
        self.principal = principal
        self.defers = defers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send = enter(scope, send)
        if call is None:
            await self.app(scope, receive, send)
            return
        try:
            if call.principal is None:
                name_caller(call, scope, self.principal, middleware="RateLimit")
            receive = watch_client(call, receive)
            if self.defers and _has_small_body(scope):
                call.is_deferred = True
                await self.app(scope, receive, send)
                return
            async with self.reservations.hold(call, known_from_headers(tuple(self.limits))):
                await self.app(scope, receive, send)
        except Refusal as refusal:
            if call.status is not None:
                raise  # it is the app's, and its answer has begun
            answer = refusal
            if call.is_deferred:
                answer = await self.reservations.first_refusal(call, refusal, self.limits)
            await refuse(call, answer, scope, send)


def _has_small_body(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return len(value) <= 5 and value.isdigit() and int(value) <= _SMALL_BYTES
        if name == b"transfer-encoding":
            return False
    return True
