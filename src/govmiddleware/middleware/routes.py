"""Routes: which requests a sidecar lets through to the upstream at all."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Call
from govmiddleware.core.paths import folded, is_plain, is_under, raw_path
from govmiddleware.core.refusals import Forbidden, InvalidRequest, Refusal, RouteNotMetered
from govmiddleware.middleware._enter import enter
from govmiddleware.middleware._refuse import refuse
from govmiddleware.protocols.registry import costs_nothing, recognise

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_NEVER = frozenset({"CONNECT", "TRACE", "TRACK"})
"""A tunnel that nobody meters; an echo of the request, the upstream's key in it."""


class Routes:
    """Refuses what an upstream may take for another route than the one that is governed, and routes that
    could cost and that no protocol meters.

    A request without a body costs nothing unless it is a POST, so that reads pass.

    Args:
        control_prefix: nothing that could be taken for a path under it is forwarded.
        refuse_unmetered: answer 403 to a route that no protocol reads and that could cost.
    """

    def __init__(self, app: ASGIApp, *, control_prefix: str, refuse_unmetered: bool) -> None:
        self.app = app
        self.control_prefix = control_prefix.lower()
        self.refuse_unmetered = refuse_unmetered

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        call, send = enter(scope, send)
        if call is not None:
            try:
                self._check(call, scope)
            except Refusal as refusal:
                return refuse(call, refusal, scope, send)
        return self.app(scope, receive, send)

    def _check(self, call: Call, scope: Scope) -> None:
        if call.method.upper() in _NEVER:  # the clients write it in capitals
            raise Forbidden(f"{call.method} is not forwarded.")
        if not is_plain(raw_path(scope)):
            raise InvalidRequest(
                "Servers differ in how they read this path: write it without empty and dot segments, ';' and"
                " '\\', and encode nothing in it twice or without need."
            )
        if is_under(folded(call.path), self.control_prefix):
            raise InvalidRequest("This path is too much like one of the control plane.")
        if call.model_call:
            return
        has_body = _has_body(scope)
        if has_body and recognise("POST", call.path):
            raise InvalidRequest(f"A model is called with POST, not with {call.method} and a body.")
        could_cost = has_body or call.method not in _READS
        if self.refuse_unmetered and could_cost and not costs_nothing(call.method, call.path):
            raise RouteNotMetered(
                f"{call.method} {call.path} could cost, and no protocol here can meter it."
                ' unmetered_routes = "forward" lets such routes pass.'
            )


def _has_body(scope: Scope) -> bool:
    """Whether a body is announced. There are upstreams that read one whatever the method."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in scope["headers"]
    )
