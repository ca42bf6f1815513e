"""The sidecar: an app of our own in front of an upstream, with the control plane beside."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.app import Governance
from govmiddleware.control import control_plane
from govmiddleware.errors import ConfigurationError, StoreUnavailable
from govmiddleware.upstream import Forwarder, open_client

logger = logging.getLogger("govmiddleware.sidecar")

_POLICY_VIOLATION = 1008
"""RFC 6455, 7.4.1."""


class Sidecar:
    """The ASGI app that `govmiddleware serve` runs.

    The lifespan opens and drains the governance. Paths under `control_prefix` belong to the control
    plane; everything else is governed and forwarded. WebSockets are refused: nothing meters them yet.

    Args:
        speaks: whether it says what is worth saying once; of several workers one does.

    Raises ConfigurationError where there is no upstream.
    """

    def __init__(self, governance: Governance, *, speaks: bool = True) -> None:
        settings = governance.settings
        if settings.upstream is None:
            raise ConfigurationError("upstream", None, "the URL to forward to, such as http://127.0.0.1:4000")
        self.governance = governance
        self.speaks = speaks
        self.prefix = settings.control_prefix
        self.control: ASGIApp = control_plane(
            prefix=settings.control_prefix,
            usage=governance.usage,
            api_tokens=governance.api_tokens,
            readiness=governance.readiness,
            metrics=governance.metrics,
            admin_token=settings.admin_token.get_secret_value() if settings.admin_token else None,
            metrics_token=settings.metrics_token.get_secret_value() if settings.metrics_token else None,
            trusted_proxies=governance.trusted_proxies,
        )
        self.client = open_client(
            connect_timeout=settings.connect_timeout,
            first_byte_timeout=settings.first_byte_timeout,
            idle_timeout=settings.idle_timeout,
        )
        key = settings.upstream_api_key
        forwarder = Forwarder(
            client=self.client,
            base_url=settings.upstream,
            upstream_auth=settings.upstream_auth,
            upstream_api_key=key.get_secret_value() if key else None,
        )
        self.data = governance.stack(forwarder, sidecar=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._lifespan(receive, send)
            case "websocket":
                await receive()
                await send(
                    {
                        "type": "websocket.close",
                        "code": _POLICY_VIOLATION,
                        "reason": "WebSockets are not metered here",
                    }
                )
            case _ if self._is_control(scope["path"]):
                await self.control(scope, receive, send)
            case _:
                await self.governance.open()
                await self.data(scope, receive, send)

    def _is_control(self, path: str) -> bool:
        return path == self.prefix or path.startswith(self.prefix + "/")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.governance.open()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if self.speaks:
            await self._say_if_nobody_may_call()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.client.close()
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
