"""The life of a span: begun in the trace that a call is part of, told on, and ended with what became of the call."""

from __future__ import annotations

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from govmiddleware.core.call import Call
from govmiddleware.core.ports import Headers
from govmiddleware.telemetry.conventions import (
    Attributes,
    call_attributes,
    method_of,
    request_attributes,
    span_name,
)
from govmiddleware.telemetry.otlp import Otlp

_W3C = TraceContextTextMapPropagator()
"""For ourselves; what others are told is up to `OTEL_PROPAGATORS`."""


class CallSpan:
    """The span of one call, begun when this is made. `Call.traceparent` names it from then on.

    Args:
        headers: of its request.
        is_inner: whether it leaves from inside a host app, rather than comes in.
    """

    def __init__(self, otlp: Otlp, call: Call, headers: Headers, *, is_inner: bool = False) -> None:
        self._otlp = otlp
        self._call = call
        self.span = otlp.tracer.start_span(
            method_of(call),
            _where(headers),
            SpanKind.CLIENT if is_inner else SpanKind.SERVER,
            attributes=request_attributes(call),
        )
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self.span))
        call.traceparent = carrier.get("traceparent")

    def end(self, error: BaseException | None = None) -> None:
        """The call has ended, by `error` where it was raised through the stack."""
        call = self._call
        self.span.update_name(span_name(call))
        # What a client did wrong is no error of the server's.
        failed = (call.status or 0) >= 500 or call.upstream_failure or isinstance(error, Exception)
        close(self.span, call_attributes(call, error), is_error=bool(failed))
        self._otlp.instruments.record(call, error, trace.set_span_in_context(self.span))


def close(span: Span, attributes: Attributes, *, is_error: bool) -> None:
    """End a span."""
    span.set_attributes(attributes)
    if is_error:
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def continued(span: Span, headers: Headers) -> Headers:
    """Headers that say that what they go to is part of this span."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    ours = {name.encode("latin-1"): value.encode("latin-1") for name, value in carrier.items()}
    replaced = {*ours, b"traceparent", b"tracestate"} if ours else ()
    return [*(header for header in headers if header[0] not in replaced), *ours.items()]


def _where(headers: Headers) -> Context | None:
    """In the span that is current, as for calls from inside an app, else in what the headers say."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    texts: dict[str, list[str]] = {}
    for name, value in headers:
        texts.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return propagate.extract(texts)
