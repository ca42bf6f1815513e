"""What the composition root has of telemetry."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp

from govmiddleware.core.call import Call
from govmiddleware.telemetry.otlp import Otlp
from govmiddleware.telemetry.spans import CallSpan
from govmiddleware.telemetry.trace import Trace, TraceUpstream


class Telemetry:
    """Traces and measures calls, from `start` to `stop`.

    Raises as `Otlp`.
    """

    def __init__(self) -> None:
        self._otlp = Otlp()

    def start(self) -> None:
        """See `Otlp`."""
        self._otlp.start()

    async def stop(self) -> None:
        """See `Otlp`."""
        await self._otlp.stop()

    def begin(self, call: Call) -> CallSpan:
        """The span of a call that leaves from inside an app and passes no middleware."""
        return CallSpan(self._otlp, call, [], is_inner=True)

    def around(self, app: ASGIApp, *, is_inner: bool = False) -> Trace:
        """See `Trace`."""
        return Trace(app, otlp=self._otlp, is_inner=is_inner)

    def around_upstream(self, app: ASGIApp, urls: Mapping[str, str | None]) -> TraceUpstream:
        """See `TraceUpstream`."""
        return TraceUpstream(app, otlp=self._otlp, urls=urls)
