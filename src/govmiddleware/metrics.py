"""Counts what happens, in Prometheus metrics. Labels are bounded: configured names, catalogue models, closed sets.

Several processes that are one service share their metrics by prometheus_client's multiprocess mode: where
PROMETHEUS_MULTIPROC_DIR names a directory when this module is imported, each process keeps its values in
files there, and each can answer for all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from govmiddleware.core.call import AnswerEnd
from govmiddleware.core.refusals import LimitRefusal
from govmiddleware.errors import ConfigurationError
from govmiddleware.metrics_declared import DeclaredMetrics
from govmiddleware.metrics_kinds import DIRECTORY as DIRECTORY
from govmiddleware.metrics_kinds import Kind

if TYPE_CHECKING:
    from govmiddleware.core.call import Call, Settlement
    from govmiddleware.core.limits import Limit
    from govmiddleware.core.refusals import Refusal
    from govmiddleware.core.usage import Usage

MOST_STORED_LIMITS = 200
"""So many limits that are not in the file have labels of their own."""

_SHARE_SECONDS = 0.25
"""How often requests have the numbers of this process written to where the others see them."""

_OTHER = "other"
_NO_PROVIDER = "none"
"""Of what was refused before one was chosen; else it is the upstream's configured name."""
_STATUS_CLASSES: dict[int | None, str] = {None: "none"} | {
    status: f"{status // 100}xx" for status in range(100, 600)
}
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
        self._uses: dict[tuple[str, str], _Use] = {}
        """By provider and model."""
        self._shared = 0.0

    def know_limits(self, configured: Iterable[str]) -> None:
        """Limits of the file always have their names as labels. Of others, which people create and delete at run time,
        the first MOST_STORED_LIMITS that answer have; the rest is `other`."""
        self._limits.update(configured)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format; in multiprocess mode, summed over the processes."""
        registry = self.registry
        if self._are_shared:
            self.share()
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def share(self) -> None:
        """In multiprocess mode, have the other processes see what was counted here so far."""
        if self._are_shared:
            for metric in vars(self).values():
                if isinstance(metric, Kind):
                    metric.share()

    def ended(self, call: Call) -> None:
        """Count a request that ended, with what it was answered and how that ended."""
        now, status, end = time.monotonic(), call.status, call.answer_end
        protocol, provider = call.protocol.name, call.provider or _NO_PROVIDER
        self.requests.series[protocol, provider, _model(call), _STATUS_CLASSES.get(status, _OTHER)].value += 1
        self.duration.series[protocol, provider].observe(now - call.started)
        is_error = status is not None and status >= 400
        if call.stream and end is not None and not is_error:
            self.streams.series[protocol, str(end)].value += 1
            if call.first_byte is not None:
                self.first_chunk.series[protocol, provider].observe(call.first_byte - call.started)
        has_failed = is_error or call.refusal is not None or end is AnswerEnd.UPSTREAM_CUT
        if has_failed and (code := _failure(call)) is not None:
            self.upstream_failures.series[provider, code].value += 1
        if self._are_shared and now - self._shared >= _SHARE_SECONDS:
            self._shared = now
            self.share()

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal, by the limit that answered where one did."""
        failures = refusal.failures if isinstance(refusal, LimitRefusal) else ()
        self.refusals.labels(refusal.code, self._limit(failures[0].limit) if failures else "").inc()

    def would_refuse(self, refusal: LimitRefusal) -> None:
        """Count what limits in dry_run would have answered."""
        self.dry_run_refusals.labels(self._limit(refusal.failures[0].limit)).inc()

    def crossed(self, limit: Limit, past: Literal["soft", "hard"]) -> None:
        """Count that a value of a limit was crossed."""
        kind = "rate" if limit.refuses_as_rate else "budget"
        self.limit_events.labels(self._limit(limit), kind, past).inc()

    def settled(self, call: Call, usage: Usage, cost: int, settlement: Settlement) -> None:
        """Count what one request used, and what was reserved for it. Cost in nano-USD."""
        self.settlements.series[(str(settlement),)].value += 1
        if (reserved := call.reserved) is None:
            return  # it calls no model
        labels = call.provider or _NO_PROVIDER, _model(call)
        use = self._uses.get(labels)
        if use is None:
            use = self._uses[labels] = _Use(self, *labels)
        use.input.value += usage.input_tokens
        use.cached.value += usage.cached_tokens
        use.output.value += usage.output_tokens
        use.reasoning.value += usage.reasoning_tokens
        use.cost.value += cost / 1e9
        use.reserved_input.value += reserved.input_tokens
        use.reserved_output.value += reserved.output_tokens
        use.reserved.value += reserved.cost / 1e9
        if cost > reserved.cost:
            use.debt.value += (cost - reserved.cost) / 1e9

    def estimated(self, call: Call, usage: Usage) -> None:
        """Count how the input of a settled request, as its provider reported it, compares with what was estimated,
        and whether it was within its bound."""
        protocol, input_tokens, size = call.protocol.name, usage.input_tokens, "unknown"
        if call.shows_its_size:
            size = "shown"
            if call.estimated_input_tokens:
                ratio = input_tokens / call.estimated_input_tokens
                self.estimate_ratio.series[(protocol,)].observe(ratio)
        held = call.demand is not None and input_tokens <= call.demand.input_tokens
        self.input_bounds.series[protocol, _model(call), size, "yes" if held else "no"].value += 1

    def calibrated(self, call: Call, from_tokens: int, factor: float) -> None:
        """Show what is learned of the model of a settled request, for prompts of its size."""
        self.input_bound_factor.labels(call.protocol.name, _model(call), str(from_tokens)).value = factor

    def store_trip(self, script: str) -> _StoreTrip:
        """A context that times one trip; an exception counts as an error, but not that nobody waits any more."""
        return _StoreTrip(self, script, time.perf_counter())

    def _limit(self, limit: Limit) -> str:
        if limit.name not in self._limits:
            if not self._room:
                return _OTHER
            self._limits.add(limit.name)
            self._room -= 1
        return limit.name


class _Use:
    """What the calls of one provider and model use."""

    def __init__(self, metrics: Metrics, provider: str, model: str) -> None:
        self.input = metrics.tokens.labels("input", provider, model)
        self.cached = metrics.tokens.labels("cached", provider, model)
        self.output = metrics.tokens.labels("output", provider, model)
        self.reasoning = metrics.tokens.labels("reasoning", provider, model)
        self.cost = metrics.cost.labels(provider, model)
        self.reserved_input = metrics.reserved_tokens.labels("input", provider, model)
        self.reserved_output = metrics.reserved_tokens.labels("output", provider, model)
        self.reserved = metrics.reserved.labels(provider, model)
        self.debt = metrics.debt.labels(provider, model)


class _StoreTrip(msgspec.Struct, frozen=True):
    """See `Metrics.store_trip`."""

    metrics: Metrics
    script: str
    started: float

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.metrics.store_seconds.series[(self.script,)].observe(time.perf_counter() - self.started)
        if kind is not None and issubclass(kind, Exception):
            self.metrics.store_errors.labels(self.script).inc()


def _model(call: Call) -> str:
    """The catalogue's name; what clients invent is `other`."""
    return call.price.model if call.price else _OTHER


def _failure(call: Call) -> str | None:
    """What the upstream failed at, if it did: as OpenTelemetry's `error.type`, a code of ours or its status."""
    if call.refusal is not None:
        return call.refusal.code if call.refusal.code in _UPSTREAM_CODES else None
    if call.status is not None and call.status >= 400:
        return str(call.status) if call.status in _FAILED_STATUSES else None
    return "upstream_cut" if call.answer_end is AnswerEnd.UPSTREAM_CUT else None
