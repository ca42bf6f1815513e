"""The choice among several upstreams, made by the provider of each call."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Call
from govmiddleware.errors import MissingPredecessor


class ByProvider:
    """An ASGI app that hands each request to the forwarder of its provider.

    Every forwarder has a URL, a credential and connections of its own and knows of no other: no credential can
    reach the wrong upstream, and one that hangs holds up the calls to itself alone.
    """

    def __init__(self, forwarders: Mapping[str, ASGIApp]) -> None:
        self._forwarders = dict(forwarders)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        call: Call | None = scope.get("state", {}).get("gov")
        if call is None or call.provider is None:
            raise MissingPredecessor("ByProvider", "Estimate")
        return self._forwarders[call.provider](scope, receive, send)
