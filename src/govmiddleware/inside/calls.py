"""Inner calls: for whom they are made, and the stack that they take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.attribution import first_named, read_attribution
from govmiddleware.core.call import Call, Principal, current_call
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.limits import Limit
from govmiddleware.core.ports import Headers, WireProtocol
from govmiddleware.core.refusals import Refusal
from govmiddleware.errors import NoCaller
from govmiddleware.inside.exchange import hand_over
from govmiddleware.middleware import Budget, Estimate, Journal, Meter
from govmiddleware.middleware._enter import STATE_KEY
from govmiddleware.middleware._refuse import refuse
from govmiddleware.services.reservations import Reservations

if TYPE_CHECKING:
    from govmiddleware.telemetry.telemetry import Telemetry


class InnerCalls:
    """What all calls from inside an app share.

    Args:
        admit: opens the governance where it is not yet; raises Unavailable.
        estimate: makes the Estimate around an app.
        journal: makes the Journal around an app.
        limits: all limits, iterated for each call.
        telemetry: traces them, where they are traced.

    Attributes:
        stack: the middlewares that govern them, around `hand_over`.
        estimate: the one in it.
    """

    def __init__(
        self,
        *,
        admit: Callable[[], Awaitable[None]],
        estimate: Callable[[ASGIApp], Estimate],
        journal: Callable[[ASGIApp], Journal],
        reservations: Reservations,
        limits: Iterable[Limit],
        telemetry: Telemetry | None = None,
    ) -> None:
        self.admit = admit
        self.reservations = reservations
        self.limits = limits
        self.estimate = estimate(
            Budget(Meter(hand_over), reservations=reservations, limits=limits, metered=True)
        )
        self.telemetry = telemetry
        app: ASGIApp = _Inherit(self.estimate, admit)
        self.stack = journal(telemetry.around(app, is_inner=True) if telemetry else app)

    def new_call(
        self, protocol: WireProtocol, method: str, path: str, *, principal: Principal | None
    ) -> Call:
        """A Call for the request that runs here or else for `principal`. Raises NoCaller."""
        outer = current_call.get()
        if outer is not None and outer.governed and outer.principal is not None:
            principal = outer.principal
        elif principal is None:
            raise NoCaller(
                "No governed request runs here, so that nobody is known to call: govern the route it comes from"
                " (paths=[...]), or name somebody with principal=Principal(workspace=..., api_token=...)."
            )
        else:
            outer = None
        call = Call(new_request_id(), protocol, method, path, model_call=True, parent=outer)
        call.principal = principal
        call.trust_caller = outer.trust_caller if outer else True
        call.traceparent = outer.traceparent if outer else None
        call.answer_headers.append((b"x-gov-request-id", call.request_id.encode()))
        return call


class _Inherit:
    """Stands where Authenticate does for calls from outside. The call is attributed as its parent is, unless
    its own headers say otherwise, which are not sent on."""

    def __init__(self, app: ASGIApp, admit: Callable[[], Awaitable[None]]) -> None:
        self.app = app
        self.admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope["state"][STATE_KEY]
        headers: Headers = scope["headers"]
        try:
            await self.admit()
            own = read_attribution(headers, call.require_principal(), trust_caller=call.trust_caller)
            call.attribution = first_named(own, call.parent.attribution) if call.parent else own
        except Refusal as refusal:
            await refuse(call, refusal, scope, send)
            return
        sent_on = [(name, value) for name, value in headers if not name.startswith(b"x-gov-")]
        await self.app({**scope, "headers": sent_on}, receive, send)
