"""Journal: outermost; what became of every governed request, in the log, the metrics and the journal."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Call, Progress
from govmiddleware.metrics import Metrics
from govmiddleware.middleware._enter import enter
from govmiddleware.middleware._request_log import RequestLog
from govmiddleware.services.refusal_log import RefusalLog


class Journal:
    """Opens the Call, and reports its end. Changes no counter.

    A request that was settled has its record from the ledger; this middleware adds the refusals, at a
    bounded rate, and leaves requests that nobody authenticated to the metrics.

    Args:
        in_app: whether the routes inside are those of a host app, see `protocols.registry.recognise`.
        log: writes the log lines.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        refusals: RefusalLog,
        metrics: Metrics,
        in_app: bool = True,
        log: RequestLog | None = None,
    ) -> None:
        self.app = app
        self.in_app = in_app
        self.refusals = refusals
        self.metrics = metrics
        self.log = log or RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, send = enter(scope, send, in_app=self.in_app)
        if call is None:
            await self.app(scope, receive, send)
            return
        ended: BaseException | None = None
        try:
            await self.app(scope, receive, send)
        except BaseException as error:
            ended = error
            raise
        finally:
            if call.governed:
                self.report(call, ended)

    def report(self, call: Call, error: BaseException | None = None) -> None:
        """A call has ended, by `error` where it was raised through the stack."""
        self.metrics.ended(call)
        refusal = call.refusal
        if refusal is not None:
            self.metrics.refused(refusal)
            if call.principal is not None and call.progress is Progress.NOT_DISPATCHED:
                self.refusals.record(call, refusal)
        self.log.write(call, error)
