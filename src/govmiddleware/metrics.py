"""Every Prometheus metric, declared once. Labels are bounded: configured names and catalogue models.

Several processes that are one service share their metrics by prometheus_client's multiprocess mode: where
PROMETHEUS_MULTIPROC_DIR names a directory when this module is imported, each process keeps its values in
files there, and each can answer for all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from govmiddleware.errors import ConfigurationError

if TYPE_CHECKING:
    from govmiddleware.core.call import Call, Settlement
    from govmiddleware.core.refusals import Refusal
    from govmiddleware.core.usage import Usage

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84)
_STORE_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)


DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that turns the multiprocess mode on; prometheus_client reads it when it is imported."""


def share_as(name: str) -> None:
    """Keep this process's values in files of this name, which no other process has at the same time.

    Named by process ids, as they are without this, the files of dead processes add up. A process that
    takes the name of a dead one goes on with its counters. Call it before any metric is made.
    """
    values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]


def forget(name: str) -> None:
    """The process of this name has ended: its gauges end with it, its counters stay."""
    mark_process_dead(name)  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one Governance, on a registry given to it, or else on one of its own, which also
    tells of the process (`process_*`, `python_gc_*`) unless several share their metrics.

    Raises ConfigurationError where they are to be shared in a directory that does not exist.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        directory = os.environ.get(DIRECTORY)
        if directory is not None and not os.path.isdir(directory):
            raise ConfigurationError(DIRECTORY, directory, "a directory that exists")
        self._are_shared = directory is not None
        if registry is None:
            registry = CollectorRegistry()
            if not self._are_shared:
                ProcessCollector(registry=registry)
                GCCollector(registry=registry)
        self.registry = registry
        self.requests = Counter(
            "govmiddleware_requests",
            "Governed requests that ended, by status class.",
            ["protocol", "model", "status"],
            registry=registry,
        )
        self.duration = Histogram(
            "govmiddleware_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ["protocol"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.refusals = Counter(
            "govmiddleware_refusals",
            "Requests we refused. limit: the limit that answered, or empty.",
            ["code", "limit"],
            registry=registry,
        )
        self.tokens = Counter(
            "govmiddleware_tokens",
            "Tokens settled. input includes cached, output includes reasoning.",
            ["kind", "model"],
            registry=registry,
        )
        self.cost = Counter("govmiddleware_cost_usd", "Cost settled, in USD.", ["model"], registry=registry)
        self.settlements = Counter(
            "govmiddleware_settlements",
            "Requests settled, by how sure their amounts are.",
            ["settlement"],
            registry=registry,
        )
        self.input_bounds = Counter(
            "govmiddleware_input_bounds",
            "Settled requests whose input the provider reported. size: shown, or unknown where media, hosted tools or "
            "references were in it. held: whether it was within what was reserved.",
            ["protocol", "model", "size", "held"],
            registry=registry,
        )
        self.input_bound_factor = Gauge(
            "govmiddleware_input_bound_factor",
            "The factor over the estimate, of prompts from so many tokens on, that was learned for the workspace of "
            "the last settled request.",
            ["protocol", "model", "from_tokens"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.store_seconds = Histogram(
            "govmiddleware_store_seconds",
            "Trips to the store, as the caller saw them.",
            ["script"],
            buckets=_STORE_SECONDS,
            registry=registry,
        )
        self.store_errors = Counter(
            "govmiddleware_store_errors", "Trips to the store that failed.", ["script"], registry=registry
        )
        self.open_reservations = Gauge(
            "govmiddleware_open_reservations",
            "Reservations of calls that run.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.overspend_bound = Gauge(
            "govmiddleware_overspend_bound_usd",
            "What running streams could cost beyond what they have reserved so far, at the most.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.counted_characters = Counter(
            "govmiddleware_counted_characters",
            "Characters of long texts in prompts, by where their count is from: counter or memory.",
            ["source"],
            registry=registry,
        )
        self.dry_run_refusals = Counter(
            "govmiddleware_dry_run_refusals",
            "Requests that limits in dry_run would have refused. limit: the one that would have answered.",
            ["limit"],
            registry=registry,
        )
        self.cut_streams = Counter(
            "govmiddleware_cut_streams", "Streams that a limit ended.", registry=registry
        )
        self.limit_events = Counter(
            "govmiddleware_limit_events",
            "Times that a limit's soft or hard value was crossed, one for each value of its scope and window.",
            ["limit", "past"],
            registry=registry,
        )
        self.webhook_messages = Counter(
            "govmiddleware_webhook_messages",
            "Messages for the webhook, by what became of them: delivered, failed, dropped.",
            ["outcome"],
            registry=registry,
        )
        self.unsent_writes = Gauge(
            "govmiddleware_unsent_writes",
            "Settlements that the store has not taken yet.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.late_settlements = Counter(
            "govmiddleware_late_settlements",
            "Settlements that came after the sweep.",
            registry=registry,
        )
        self.lost_workspaces = Counter(
            "govmiddleware_lost_workspaces",
            "Calls found that the store had lost the counters of their workspace, at most one a second.",
            registry=registry,
        )
        self.lost_settlements = Counter(
            "govmiddleware_lost_settlements",
            "Settlements that the store has lost: what they used is missing in counters. The log names them.",
            registry=registry,
        )
        self.drained = Counter(
            "govmiddleware_journal_drained_records",
            "Records copied from the store into the journal's database.",
            registry=registry,
        )
        self.undrained = Gauge(
            "govmiddleware_journal_waiting_records",
            "Records in the store that are not in the journal's database yet.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.drain_lag = Gauge(
            "govmiddleware_journal_lag_seconds",
            "How long the oldest of them has waited.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.history_down = Gauge(
            "govmiddleware_journal_database_down",
            "1 while the journal's database takes no records, else 0.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.swept = Counter(
            "govmiddleware_swept_reservations",
            "Reservations whose worker was lost, settled as reserved.",
            registry=registry,
        )

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format; in multiprocess mode, summed over the processes."""
        registry = self.registry
        if self._are_shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def ended(self, call: Call) -> None:
        """Count a request that ended, with what it was answered."""
        status = f"{call.status // 100}xx" if call.status else "none"
        self.requests.labels(call.protocol.name, _model(call), status).inc()
        self.duration.labels(call.protocol.name).observe(time.monotonic() - call.started)

    def refused(self, refusal: Refusal, limit: str) -> None:
        self.refusals.labels(refusal.code, limit).inc()

    def settled(self, call: Call, usage: Usage, cost: int, settlement: Settlement) -> None:
        """Count what one request used. Cost in nano-USD."""
        model = _model(call)
        self.settlements.labels(settlement.value).inc()
        if call.demand is None:
            return
        self.tokens.labels("input", model).inc(usage.input_tokens)
        self.tokens.labels("cached", model).inc(usage.cached_tokens)
        self.tokens.labels("output", model).inc(usage.output_tokens)
        self.tokens.labels("reasoning", model).inc(usage.reasoning_tokens)
        self.cost.labels(model).inc(cost / 1e9)

    def bounded(self, call: Call, usage: Usage) -> None:
        """Count whether the input of a settled request was within its bound."""
        size = "shown" if call.shows_its_size else "unknown"
        held = call.bound is not None and usage.input_tokens <= call.bound.input_tokens
        self.input_bounds.labels(call.protocol.name, _model(call), size, "yes" if held else "no").inc()

    def calibrated(self, call: Call, from_tokens: int, factor: float) -> None:
        """Show what is learned of the model of a settled request, for prompts of its size."""
        self.input_bound_factor.labels(call.protocol.name, _model(call), str(from_tokens)).set(factor)

    @contextmanager
    def store_trip(self, script: str) -> Iterator[None]:
        """Time one trip; an exception counts as an error."""
        started = time.perf_counter()
        try:
            yield
        except BaseException:
            self.store_errors.labels(script).inc()
            raise
        finally:
            self.store_seconds.labels(script).observe(time.perf_counter() - started)


def _model(call: Call) -> str:
    """The catalogue's name; what clients invent is `other`."""
    return call.price.model if call.price else "other"
