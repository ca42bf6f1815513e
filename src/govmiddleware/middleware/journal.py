"""Journal: outermost; what became of every governed request, in the log, the metrics and the journal."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Call, Progress
from govmiddleware.metrics import Metrics
from govmiddleware.middleware._enter import enter
from govmiddleware.services.refusal_log import RefusalLog

logger = logging.getLogger("govmiddleware.requests")


class Journal:
    """Opens the Call, and reports its end. Changes no counter.

    A request that was settled has its record from the ledger; this middleware adds the refusals, at a
    bounded rate, and leaves requests that nobody authenticated to the metrics.

    Args:
        in_app: whether the routes inside are those of a host app, see `protocols.registry.recognise`.
    """

    def __init__(self, app: ASGIApp, *, refusals: RefusalLog, metrics: Metrics, in_app: bool = True) -> None:
        self.app = app
        self.in_app = in_app
        self.refusals = refusals
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send = enter(scope, send, in_app=self.in_app)
        if call is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            if call.governed:
                self.report(call)

    def report(self, call: Call) -> None:
        """A call has ended."""
        self.metrics.ended(call)
        refusal = call.refusal
        if refusal is not None:
            self.metrics.refused(refusal)
            if call.principal is not None and call.progress is Progress.NOT_DISPATCHED:
                self.refusals.record(call, refusal)
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "%s %s %s status=%s model=%s provider=%s workspace=%s api_token=%s refusal=%s ms=%.1f",
                call.request_id,
                call.method,
                quote(call.path, safe="/:@"),  # a line end in it would begin a line of its own
                call.status,
                call.model,
                call.provider,
                call.principal and call.principal.workspace,
                call.principal and call.principal.api_token,
                refusal and refusal.code,
                (time.monotonic() - call.started) * 1000,
            )
