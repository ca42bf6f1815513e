"""A collector: takes OTLP over HTTP and keeps what it was told."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.types import Receive, Scope, Send

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """A span, with ids in hex."""

    span: Span
    resource: Attributes

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def kind(self) -> str:
        return Span.SpanKind.Name(self.span.kind).removeprefix("SPAN_KIND_").lower()

    @property
    def ids(self) -> tuple[str, str, str]:
        """Of its trace, itself and its parent."""
        return self.span.trace_id.hex(), self.span.span_id.hex(), self.span.parent_span_id.hex()

    @property
    def attributes(self) -> Attributes:
        return _read(self.span.attributes)

    @property
    def failed(self) -> bool:
        return self.span.status.code == Status.STATUS_CODE_ERROR


@dataclass(frozen=True)
class Point:
    """A data point of a metric: what was recorded, how often and in all."""

    metric: str
    unit: str
    count: int
    sum: float
    attributes: Attributes


@dataclass
class Collector:
    """An ASGI app. `hangs`: it takes everything and never answers."""

    hangs: bool = False
    asked: threading.Event = field(default_factory=threading.Event)
    spans: list[Told] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    """Of the last export of each process."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.asked.set()
        if self.hangs:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if scope["path"] == "/v1/traces":
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        else:
            assert scope["path"] == "/v1/metrics"
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _take_spans(self, request: ExportTraceServiceRequest) -> None:
        for each in request.resource_spans:
            resource = _read(each.resource.attributes)
            self.spans += [Told(span, resource) for scope in each.scope_spans for span in scope.spans]

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for each in request.resource_metrics:
            for scope in each.scope_metrics:
                for metric in scope.metrics:
                    self.points += [
                        Point(metric.name, metric.unit, point.count, point.sum, _read(point.attributes))
                        for point in metric.histogram.data_points
                    ]
                    self.points += [
                        Point(metric.name, metric.unit, 1, point.as_double, _read(point.attributes))
                        for point in metric.sum.data_points
                    ]


def _read(pairs: Iterable[Any]) -> Attributes:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
