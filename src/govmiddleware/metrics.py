"""Counts what happens, in Prometheus metrics. Labels are bounded: configured names, catalogue models, closed sets.

Several processes that are one service share their metrics by prometheus_client's multiprocess mode: where
PROMETHEUS_MULTIPROC_DIR names a directory when this module is imported, each process keeps its values in
files there, and each can answer for all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

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

from govmiddleware.core.call import AnswerEnd
from govmiddleware.core.refusals import LimitRefusal
from govmiddleware.errors import ConfigurationError
from govmiddleware.metrics_declared import DeclaredMetrics

if TYPE_CHECKING:
    from govmiddleware.core.call import Call, Settlement
    from govmiddleware.core.limits import Limit
    from govmiddleware.core.refusals import Refusal
    from govmiddleware.core.usage import Usage

_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that turns the multiprocess mode on; prometheus_client reads it when it is imported."""

MOST_STORED_LIMITS = 200
"""So many limits that are not in the file have labels of their own."""

_OTHER = "other"
_UPSTREAM_CODES = {"upstream_unreachable", "upstream_timeout", "upstream_busy"}
_FAILED_STATUSES = {401, 403, 408, 429, *range(500, 600)}
"""Of these the request is not the cause, but the upstream, its limits or the credential that it wants."""


def share_as(name: str) -> None:
    """Keep this process's values in files of this name, which no other process has at the same time.

    Named by process ids, as they are without this, the files of dead processes add up. A process that
    takes the name of a dead one goes on with its counters. Call it before any metric is made.
    """
    values.ValueClass = values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]


def forget(name: str) -> None:
    """The process of this name has ended: its gauges end with it, its counters stay."""
    mark_process_dead(name)  # type: ignore[no-untyped-call]


class Metrics(DeclaredMetrics):
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
        super().__init__(registry)
        self._limits: set[str] = set()
        self._room = MOST_STORED_LIMITS
        self._found: dict[tuple[object, ...], Any] = {}
        """Series, by metric and labels."""

    def know_limits(self, configured: Iterable[str]) -> None:
        """Limits of the file always have their names as labels. Of others, which people create and delete at run time,
        the first MOST_STORED_LIMITS that answer have; the rest is `other`."""
        self._limits.update(configured)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format; in multiprocess mode, summed over the processes."""
        registry = self.registry
        if self._are_shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def ended(self, call: Call) -> None:
        """Count a request that ended, with what it was answered and how that ended."""
        protocol, provider = call.protocol.name, _provider(call)
        self._series(self.requests, protocol, provider, _model(call), _status_class(call.status)).inc()
        self._series(self.duration, protocol, provider).observe(time.monotonic() - call.started)
        if call.stream and call.answer_end is not None and not _is_error(call):
            self._series(self.streams, protocol, call.answer_end.value).inc()
            if call.first_byte is not None:
                self._series(self.first_chunk, protocol, provider).observe(call.first_byte - call.started)
        if (code := _failure(call)) is not None:
            self._series(self.upstream_failures, provider, code).inc()

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal, by the limit that answered where one did."""
        failures = refusal.failures if isinstance(refusal, LimitRefusal) else ()
        self._series(self.refusals, refusal.code, self._limit(failures[0].limit) if failures else "").inc()

    def would_refuse(self, refusal: LimitRefusal) -> None:
        """Count what limits in dry_run would have answered."""
        self._series(self.dry_run_refusals, self._limit(refusal.failures[0].limit)).inc()

    def crossed(self, limit: Limit, past: Literal["soft", "hard"]) -> None:
        """Count that a value of a limit was crossed."""
        kind = "rate" if limit.refuses_as_rate else "budget"
        self._series(self.limit_events, self._limit(limit), kind, past).inc()

    def settled(self, call: Call, usage: Usage, cost: int, settlement: Settlement) -> None:
        """Count what one request used, and what was reserved for it. Cost in nano-USD."""
        self._series(self.settlements, settlement.value).inc()
        if (reserved := call.reserved) is None:
            return  # it calls no model
        provider, model = _provider(call), _model(call)
        self._series(self.tokens, "input", provider, model).inc(usage.input_tokens)
        self._series(self.tokens, "cached", provider, model).inc(usage.cached_tokens)
        self._series(self.tokens, "output", provider, model).inc(usage.output_tokens)
        self._series(self.tokens, "reasoning", provider, model).inc(usage.reasoning_tokens)
        self._series(self.cost, provider, model).inc(cost / 1e9)
        self._series(self.reserved_tokens, "input", provider, model).inc(reserved.input_tokens)
        self._series(self.reserved_tokens, "output", provider, model).inc(reserved.output_tokens)
        self._series(self.reserved, provider, model).inc(reserved.cost / 1e9)
        self._series(self.debt, provider, model).inc(max(0, cost - reserved.cost) / 1e9)

    def estimated(self, call: Call, usage: Usage) -> None:
        """Count how the input of a settled request, as its provider reported it, compares with what was estimated,
        and whether it was within its bound."""
        if call.shows_its_size and call.estimated_input_tokens:
            ratio = usage.input_tokens / call.estimated_input_tokens
            self._series(self.estimate_ratio, call.protocol.name).observe(ratio)
        size = "shown" if call.shows_its_size else "unknown"
        held = call.demand is not None and usage.input_tokens <= call.demand.input_tokens
        self._series(self.input_bounds, call.protocol.name, _model(call), size, "yes" if held else "no").inc()

    def calibrated(self, call: Call, from_tokens: int, factor: float) -> None:
        """Show what is learned of the model of a settled request, for prompts of its size."""
        self._series(self.input_bound_factor, call.protocol.name, _model(call), str(from_tokens)).set(factor)

    @contextmanager
    def store_trip(self, script: str) -> Iterator[None]:
        """Time one trip; an exception counts as an error, but not that nobody waits any more."""
        started = time.perf_counter()
        try:
            yield
        except Exception:
            self._series(self.store_errors, script).inc()
            raise
        finally:
            self._series(self.store_seconds, script).observe(time.perf_counter() - started)

    def _series(self, metric: _Metric, *labels: str) -> _Metric:
        """As `metric.labels`, which takes five times as long, on the way of each request."""
        key = (metric, *labels)
        found: _Metric | None = self._found.get(key)
        if found is None:
            found = self._found[key] = metric.labels(*labels)
        return found

    def _limit(self, limit: Limit) -> str:
        if limit.name not in self._limits:
            if not self._room:
                return _OTHER
            self._limits.add(limit.name)
            self._room -= 1
        return limit.name


def _model(call: Call) -> str:
    """The catalogue's name; what clients invent is `other`."""
    return call.price.model if call.price else _OTHER


def _provider(call: Call) -> str:
    """The upstream's configured name; `none` for what was refused before one was chosen."""
    return call.provider or "none"


def _status_class(status: int | None) -> str:
    if status is None:
        return "none"
    return f"{status // 100}xx" if 100 <= status < 600 else _OTHER


def _is_error(call: Call) -> bool:
    return call.status is not None and call.status >= 400


def _failure(call: Call) -> str | None:
    """What the upstream failed at, if it did: as OpenTelemetry's `error.type`, a code of ours or its status."""
    if call.refusal is not None:
        return call.refusal.code if call.refusal.code in _UPSTREAM_CODES else None
    if call.answer_end is AnswerEnd.UPSTREAM_CUT and not _is_error(call):
        return "upstream_cut"
    return str(call.status) if call.status in _FAILED_STATUSES else None
