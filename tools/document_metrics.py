"""Write the table of docs/metrics.md: every metric as it is declared, and its counterpart in OpenTelemetry.

python tools/document_metrics.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from govmiddleware.metrics import Metrics
from govmiddleware.metrics_kinds import Kind

PAGE = Path(__file__).parent.parent / "docs/metrics.md"
BEGIN, END = "<!-- by tools/document_metrics.py -->\n\n", "\n<!-- end -->\n"

COUNTERPARTS = {
    "govmiddleware_requests_total": "the count of `gen_ai.server.request.duration`",
    "govmiddleware_request_duration_seconds": "`gen_ai.server.request.duration`",
    "govmiddleware_time_to_first_chunk_seconds": "`gen_ai.client.operation.time_to_first_chunk`; of a server,"
    " `gen_ai.server.time_to_first_token`",
    "govmiddleware_upstream_failures_total": "`gen_ai.client.operation.duration` with an `error.type`",
    "govmiddleware_tokens_total": "the sum of `gen_ai.client.token.usage`",
    "govmiddleware_build_info": "the resource attribute `service.version`",
}
"""In the semantic conventions for generative AI (github.com/open-telemetry/semantic-conventions-genai, in development)."""


def declared() -> list[Kind[Any]]:
    """In the order of their declarations."""
    metrics = Metrics(CollectorRegistry())
    return [metric for metric in vars(metrics).values() if isinstance(metric, Kind)]


def name_of(metric: Kind[Any]) -> str:
    """As Prometheus has it: counters end in `_total`."""
    [family] = metric.describe()
    return f"{family.name}_total" if family.type == "counter" else family.name


def table() -> str:
    rows = ["| metric | type | labels | meaning | OpenTelemetry |", "|---|---|---|---|---|"]
    for metric in declared():
        [family], name = metric.describe(), name_of(metric)
        labels = ", ".join(metric._labelnames)
        cells = (f"`{name}`", family.type, labels, family.documentation, COUNTERPARTS.get(name, ""))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    page = PAGE.read_text("utf-8")
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(page[:begin] + table() + page[end:], "utf-8")


if __name__ == "__main__":
    main()
