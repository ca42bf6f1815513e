"""The way out: OpenTelemetry's SDK, with exporters in threads of their own, which no request waits for.

The SDK reads its own variables: where to, with which headers and resource, which sampler, how often. Its queue of
spans is bounded, and what is too much for it is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer, Tracer

from govmiddleware.errors import ConfigurationError
from govmiddleware.telemetry.instruments import Instruments

logger = logging.getLogger("govmiddleware.telemetry")

_PROTOCOL = "http/protobuf"
_INSTANCE = "service.instance.id"

_FAREWELL_SECONDS = 3.0
"""For what waits to be exported when the process ends."""


class Otlp:
    """A tracer and instruments that export once it is started, and do nothing before and after. They are none of the
    process's global providers, which belong to the host app.

    Raises ConfigurationError where the environment asks for another protocol than OTLP over HTTP.
    """

    def __init__(self) -> None:
        for name in (
            OTEL_EXPORTER_OTLP_PROTOCOL,
            OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
            OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
        ):
            if os.environ.get(name, _PROTOCOL) != _PROTOCOL:
                expected = f"{_PROTOCOL}, which collectors take on port 4318"
                raise ConfigurationError(name, os.environ[name], expected)
        self._ends: list[Callable[[], None]] = []
        """How each exporter ends, once it has exported what waits."""
        self._be_silent()

    def _be_silent(self) -> None:
        self.tracer: Tracer = NoOpTracer()
        self.instruments = Instruments(NoOpMeter("govmiddleware"))

    def start(self) -> None:
        """Start the exporters, in this process: they do not survive a fork from before. Idempotent.

        Raises ConfigurationError for a variable that the SDK cannot read.
        """
        if self._ends:
            return
        resource, ours = _resource(), version("govmiddleware")
        try:
            if os.environ.get(OTEL_TRACES_EXPORTER) != "none":
                tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
                tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
                self.tracer = tracers.get_tracer("govmiddleware", ours)
                self._ends.append(tracers.shutdown)
            if os.environ.get(OTEL_METRICS_EXPORTER) != "none":
                reader = PeriodicExportingMetricReader(OTLPMetricExporter())
                meters = MeterProvider([reader], resource, shutdown_on_exit=False)
                self.instruments = Instruments(meters.get_meter("govmiddleware", ours))
                self._ends.append(meters.shutdown)
        except ValueError as error:
            for shut_down in self._ends:  # at once, as nothing was recorded yet
                shut_down()
            self._ends = []
            raise ConfigurationError("OTEL_*", str(error), "what OpenTelemetry's SDK can read") from error

    async def stop(self) -> None:
        """Export what waits, and end. What the collector has not taken after 3 s is given up: the threads that still
        try are daemons, for which no process waits."""
        ends, self._ends = self._ends, []
        self._be_silent()
        loop = asyncio.get_running_loop()

        def end(shut_down: Callable[[], None], ended: asyncio.Event) -> None:
            shut_down()
            with suppress(RuntimeError):  # the loop has not waited for it
                loop.call_soon_threadsafe(ended.set)

        waiting = []
        for shut_down in ends:
            waiting.append(ended := asyncio.Event())
            threading.Thread(target=end, args=(shut_down, ended), name="OtelEnd", daemon=True).start()
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                for ended in waiting:
                    await ended.wait()
        except TimeoutError:
            logger.warning("what the collector did not take within %g s is lost", _FAREWELL_SECONDS)


def _resource() -> Resource:
    """Who speaks. Each process is an instance of its own, or their counters would be taken for one another's: what
    the environment says is the same for all workers of a pod."""
    given = OTELResourceDetector().detect().attributes
    instance = given.get(_INSTANCE)
    ours = {
        "service.name": "govmiddleware",
        "service.version": version("govmiddleware"),
        **given,
        _INSTANCE: f"{instance}.{os.getpid()}" if instance else str(uuid.uuid4()),
    }
    return Resource.create(ours)
