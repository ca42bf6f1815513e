"""The sidecar: an app of our own in front of an upstream, with the control plane beside."""

from __future__ import annotations

import asyncio
import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.app import Governance
from govmiddleware.control import control_plane
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.paths import is_under, raw_path
from govmiddleware.core.ports import UpstreamClient
from govmiddleware.core.refusals import RouteNotMetered
from govmiddleware.errors import ConfigurationError, StoreUnavailable
from govmiddleware.protocols.registry import recognise, unrecognised
from govmiddleware.services.standing import Standings
from govmiddleware.settings import UpstreamSettings
from govmiddleware.upstream import ByProvider, Connections, Forwarder, open_client

logger = logging.getLogger("govmiddleware.sidecar")

_POLICY_VIOLATION = 1008
"""RFC 6455, 7.4.1."""

_UPGRADE_REQUIRED = 426
"""RFC 9110, 15.5.22. What Codex takes for "use HTTP" (codex-rs, `core/src/client.rs`)."""


class Sidecar:
    """The ASGI app that `govmiddleware serve` runs.

    The lifespan opens and drains the governance. Paths under `control_prefix` belong to the control
    plane; everything else is governed and forwarded. WebSockets are refused: nothing meters them.

    Args:
        speaks: whether it says what is worth saying once; of several workers one does.

    Raises ConfigurationError where there is no upstream, and for one without a URL or whose credential is
    not in the environment.
    """

    def __init__(self, governance: Governance, *, speaks: bool = True) -> None:
        settings = governance.settings
        self.governance = governance
        self.speaks = speaks
        self._leaves = False
        self.prefix = settings.control_prefix
        self.control: ASGIApp = control_plane(
            prefix=settings.control_prefix,
            audit=governance.audit,
            usage=governance.usage,
            usage_reset=governance.usage_reset,
            limits=governance.limits,
            overrides=governance.overrides,
            links=governance.links,
            standings=Standings(governance.adjustments, governance.limits),
            api_tokens=governance.api_tokens,
            people=governance.people,
            readiness=self._readiness,
            warnings=governance.drainer.warnings,
            metrics=governance.metrics,
            metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else None,
            trusted_proxies=governance.trusted_proxies,
        )
        self._clients: list[UpstreamClient] = []
        forwarders = {
            upstream.name: self._forwarder(upstream, f"upstreams[{index}]")
            for index, upstream in enumerate(settings.all_upstreams)
        }
        self.data = governance.stack(ByProvider(forwarders), sidecar=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._lifespan(receive, send)
            case "websocket":
                await _refuse_websocket(scope, receive, send)
            case _ if is_under(raw_path(scope).decode("latin-1"), self.prefix):
                await self.control(scope, receive, send)
            case _:
                await self.governance.open()
                headers = self.governance.trusted_proxies.believed(scope.get("client"), scope["headers"])
                await self.data({**scope, "headers": headers}, receive, send)

    def leave(self) -> None:
        """Have readiness say from now on that this replica ends; calls are served as before."""
        self._leaves = True

    async def _readiness(self) -> list[str]:
        return ["it is shutting down"] if self._leaves else await self.governance.readiness()

    async def hang_up(self) -> None:
        """Close the connections to all upstreams."""
        await asyncio.gather(*(client.close() for client in self._clients))

    def _forwarder(self, upstream: UpstreamSettings, key: str) -> Forwarder:
        """With a client of its own. `key` is where the upstream stands in the settings, for errors."""
        settings = self.governance.settings
        if upstream.url is None:
            expected = "the URL to forward to, such as http://127.0.0.1:4000"
            raise ConfigurationError(f"{key}.url" if settings.upstreams else "upstream", None, expected)
        connect_timeout = upstream.connect_timeout or settings.connect_timeout
        client = open_client(
            connect_timeout=connect_timeout,
            first_byte_timeout=upstream.first_byte_timeout or settings.first_byte_timeout,
            idle_timeout=upstream.idle_timeout or settings.idle_timeout,
        )
        self._clients.append(client)
        return Forwarder(
            client=client,
            base_url=upstream.url,
            upstream_auth=upstream.auth or settings.upstream_auth,
            upstream_api_key=upstream.credential(key),
            litellm_headers=upstream.litellm_headers,
            connections=Connections(upstream.max_connections, wait_seconds=connect_timeout),
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.governance.open()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if self.speaks:
            logger.info("the journal is kept in %s", self.governance.storage.journal_place)
            await self._say_if_nobody_may_call()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.hang_up()
        await self.governance.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _say_if_nobody_may_call(self) -> None:
        if self.governance.settings.api_tokens:
            return
        try:
            known = await self.governance.api_token_store.list()
        except StoreUnavailable as error:
            logger.warning("calls are refused until the store answers: %s", error)
            return
        if not any(token.active for token in known):
            logger.warning(
                "there is no API token yet, so every call is refused; create one with:"
                " govmiddleware token create NAME"
            )


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the handshake with an error in the protocol's envelope where the server can, else with a bare 403.
    Responses are to be had over HTTP too, and the status says so."""
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        close = {
            "type": "websocket.close",
            "code": _POLICY_VIOLATION,
            "reason": "WebSockets are not metered here",
        }
        await send(close)
        return
    refusal = RouteNotMetered("WebSockets are not metered here: use HTTP.")
    answer = unrecognised(scope["headers"]).refusal(refusal, new_request_id())
    status, headers = answer.status, answer.headers
    if recognise("POST", scope["path"]):
        status, headers = _UPGRADE_REQUIRED, [*headers, (b"upgrade", b"HTTP/1.1")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
