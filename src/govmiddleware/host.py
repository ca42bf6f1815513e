"""The whole stack around a host app."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.app import Governance
from govmiddleware.core.refusals import Unavailable
from govmiddleware.middleware._enter import checked_patterns, covers, enter
from govmiddleware.middleware._refuse import refuse
from govmiddleware.protocols.registry import recognise


class GovernanceMiddleware:
    """The whole stack around a host app, for `app.add_middleware(GovernanceMiddleware, governance=g)`.

    Governs the requests that a protocol recognises and those whose path matches one of `paths` (shell
    patterns); all others, and other scope types, pass untouched.
    """

    def __init__(self, app: ASGIApp, governance: Governance, paths: Sequence[str] = ()) -> None:
        self.app = app
        self.governance = governance
        self.paths = tuple(checked_patterns(paths) or ())
        self.governed = governance.stack(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._governs(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        try:
            await self.governance.admit()
        except Unavailable as refusal:
            call, send = enter(scope, send)
            assert call is not None, "it is an HTTP request"
            await refuse(call, refusal, scope, send)
            return
        await self.governed(scope, receive, send)

    def _governs(self, method: str, path: str) -> bool:
        return recognise(method, path, in_app=True) is not None or covers(self.paths, path)


def govern(app: ASGIApp, governance: Governance, *, paths: Sequence[str] = ()) -> GovernanceMiddleware:
    """`app` with the whole stack around it; the same as adding GovernanceMiddleware to it."""
    return GovernanceMiddleware(app, governance, paths)
