"""Traces and metrics of governed calls by OpenTelemetry, sent out by OTLP: the extra `otel`.

Nobody else knows OpenTelemetry, and nothing of it is imported before `telemetry_to_otlp` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from govmiddleware.errors import ConfigurationError

if TYPE_CHECKING:
    from govmiddleware.telemetry.telemetry import Telemetry


def telemetry_to_otlp() -> Telemetry:
    """Telemetry that sends to where OpenTelemetry's own variables say (`OTEL_EXPORTER_OTLP_ENDPOINT` and the like).

    Raises ConfigurationError without the extra, and for a protocol that it does not have.
    """
    try:
        from govmiddleware.telemetry.telemetry import Telemetry
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigurationError(
            "telemetry", "otlp", "the otel extra: pip install 'govmiddleware[otel]'"
        ) from None
    return Telemetry()
