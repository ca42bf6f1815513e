"""The metrics that go out by OTLP: OpenTelemetry's for GenAI, and the cost.

Those of the control plane's `/metrics` say more of the gateway itself; these are what GenAI dashboards know.
"""

from __future__ import annotations

import time

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from govmiddleware.core.call import Call
from govmiddleware.telemetry.conventions import metric_attributes

_TOKENS = [float(4**power) for power in range(14)]
_SECONDS = [0.01 * 2**power for power in range(14)]
_FIRST_TOKEN_SECONDS = [
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
]
"""The boundaries that the conventions advise."""


class Instruments:
    """What one meter measures."""

    def __init__(self, meter: Meter) -> None:
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._duration = meter.create_histogram(
            "gen_ai.server.request.duration",
            unit="s",
            description="From the request's head to the end of its answer.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first_token = meter.create_histogram(
            "gen_ai.server.time_to_first_token",
            unit="s",
            description="From the request's head to the first of a stream.",
            explicit_bucket_boundaries_advisory=_FIRST_TOKEN_SECONDS,
        )
        self._cost = meter.create_counter("govmiddleware.cost", unit="USD", description="Cost settled.")

    def record(self, call: Call, error: BaseException | None, context: Context) -> None:
        """A call has ended; `context` has its span, which exemplars point to."""
        if not call.model_call:
            return
        attributes = metric_attributes(call, error)
        self._duration.record(time.monotonic() - call.started, attributes, context)
        is_error = "error.type" in attributes
        if call.stream and call.first_byte is not None and not is_error:
            self._first_token.record(call.first_byte - call.started, attributes, context)
        charge = call.charge
        if charge is None or call.demand is None:
            return
        used = {"input": charge.usage.input_tokens, "output": charge.usage.output_tokens}
        for kind, tokens in used.items():
            if tokens:
                self._tokens.record(tokens, {**attributes, "gen_ai.token.type": kind}, context)
        self._cost.add(charge.cost / 1e9, attributes, context)
