"""Authenticate: an API token becomes a principal, and the headers say on whose behalf it calls."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.addresses import TrustedProxies
from govmiddleware.core.attribution import read_attribution
from govmiddleware.core.refusals import Refusal
from govmiddleware.middleware._enter import checked_patterns, covers, enter
from govmiddleware.middleware._refuse import refuse
from govmiddleware.services.api_tokens import ApiTokens, secret_in
from govmiddleware.services.reservations import Reservations


class Authenticate:
    """Answers 401 to what brings no valid API token.

    Args:
        api_tokens: who knows the tokens.
        reservations: where a revoked token is found out, at every request.
        opens: whether to open the request's reservation here. False saves a trip to the store where a
            RateLimit or Budget inside opens it anyway.
        trust_caller: whether a caller may name its user, session, agent and tags; its token's pins
            always win.
        trusted_proxies: whose `X-Forwarded-For` names the client.
        paths: shell patterns of the paths that are governed; all by default. Others pass untouched.

    Raises ConfigurationError where `paths` is one string.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_tokens: ApiTokens,
        reservations: Reservations,
        opens: bool = True,
        trust_caller: bool = True,
        trusted_proxies: TrustedProxies | None = None,
        paths: Sequence[str] | None = None,
    ) -> None:
        self.app = app
        self.api_tokens = api_tokens
        self.reservations = reservations
        self.opens = opens
        self.trust_caller = trust_caller
        self.trusted_proxies = trusted_proxies or TrustedProxies(())
        self.paths = checked_patterns(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send_governed = enter(scope, send)
        if call is None or not (self.paths is None or covers(self.paths, scope["path"])):
            if call is not None:
                call.governed = False
            await self.app(scope, receive, send)
            return
        try:
            headers: list[tuple[bytes, bytes]] = scope["headers"]
            address = self.trusted_proxies.client_address(scope.get("client"), headers)
            query: bytes = scope.get("query_string", b"") if call.protocol.key_in_query else b""
            call.principal = await self.api_tokens.authenticate(secret_in(headers, query), address)
            call.trust_caller = self.trust_caller
            call.attribution = read_attribution(headers, call.principal, trust_caller=self.trust_caller)
            if not self.opens:
                await self.app(scope, receive, send_governed)
                return
            async with self.reservations.hold(call, ()):
                await self.app(scope, receive, send_governed)
        except Refusal as refusal:
            if call.status is not None:
                raise  # it is the app's, and its answer has begun
            await refuse(call, refusal, scope, send_governed)
