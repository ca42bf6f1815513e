"""The spans of a request: Trace, just inside Journal, and TraceUpstream, around the forwarders of a sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from starlette.types import ASGIApp, Receive, Scope, Send

from govmiddleware.core.call import Call
from govmiddleware.telemetry.conventions import Attributes, error_type, method_of
from govmiddleware.telemetry.otlp import Otlp
from govmiddleware.telemetry.spans import CallSpan, close, continued


class Trace:
    """A span around each call. What is inside finds it as the current one, and in the headers.

    Args:
        is_inner: whether they leave from inside a host app, rather than come in.
    """

    def __init__(self, app: ASGIApp, *, otlp: Otlp, is_inner: bool = False) -> None:
        self.app = app
        self.otlp = otlp
        self.is_inner = is_inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call | None = scope.get("state", {}).get("gov")
        if call is None:
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        traced = CallSpan(self.otlp, call, headers, is_inner=self.is_inner)
        ended: BaseException | None = None
        try:
            with trace.use_span(traced.span, record_exception=False, set_status_on_exception=False):
                await self.app({**scope, "headers": continued(traced.span, headers)}, receive, send)
        except BaseException as error:
            ended = error
            raise
        finally:
            traced.end(ended)


class TraceUpstream:
    """A span around what a sidecar sends to an upstream, which is told of it.

    Args:
        urls: of the upstreams, by their names.
    """

    def __init__(self, app: ASGIApp, *, otlp: Otlp, urls: Mapping[str, str | None]) -> None:
        self.app = app
        self.otlp = otlp
        self._servers = {name: _server(url) for name, url in urls.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope["state"]["gov"]
        attributes: Attributes = {
            "http.request.method": method_of(call),
            "govmiddleware.provider": call.provider or "",
            **self._servers.get(call.provider or "", {}),
        }
        name = method_of(call)
        span = self.otlp.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        ended: BaseException | None = None
        try:
            await self.app({**scope, "headers": continued(span, scope["headers"])}, receive, send)
        except BaseException as error:
            ended = error
            raise
        finally:
            outcome = _outcome(call, ended)
            close(span, outcome, is_error="error.type" in outcome)


def _outcome(call: Call, error: BaseException | None) -> Attributes:
    attributes: Attributes = {}
    if call.status is not None and call.refusal is None:
        attributes["http.response.status_code"] = call.status
    if (kind := error_type(call, error)) is not None:
        attributes["error.type"] = kind
    return attributes


def _server(url: str | None) -> Attributes:
    parts = urlsplit(url or "")
    if parts.hostname is None:
        return {}
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname, "server.port": port}
