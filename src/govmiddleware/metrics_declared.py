"""Every Prometheus metric, declared once: its name, its labels and what it means, as docs/metrics.md has them.

Labels have values of closed or configured sets alone; `metrics.Metrics` sees to it. A gauge says how those of several
processes become one: `livesum` where each has a part, `livemax` where all see the same or the worst counts. What alerts
look for is 0 from the start: a first value that is 1 already would be no increase.
"""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CollectorRegistry

from govmiddleware.metrics_kinds import Counter, Gauge, Histogram

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84)
"""Those that OpenTelemetry advises for gen_ai.server.request.duration, and one more: answers take minutes."""
_STORE_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_RATIOS = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.4, 1.7, 2, 4)


class DeclaredMetrics:
    """The metrics as attributes, on a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._declare_requests(registry)
        self._declare_use(registry)
        self._declare_estimates(registry)
        self._declare_limits(registry)
        self._declare_books(registry)
        self._declare_process(registry)

    def _declare_requests(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "govmiddleware_requests",
            "Governed requests that ended, by status class.",
            ["protocol", "provider", "model", "status"],
            registry=registry,
        )
        self.duration = Histogram(
            "govmiddleware_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ["protocol", "provider"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_chunk = Histogram(
            "govmiddleware_time_to_first_chunk_seconds",
            "Of streams: from the request's head to the first bytes of its answer's body.",
            ["protocol", "provider"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.streams = Counter(
            "govmiddleware_streams",
            "Streams that ended: whole, or because the client left, the upstream broke off, or a limit cut them "
            "(whole, client_left, upstream_cut, limit).",
            ["protocol", "end"],
            registry=registry,
        )
        self.cut_streams = Counter(
            "govmiddleware_cut_streams", "Streams that a limit ended.", registry=registry
        )
        self.upstream_failures = Counter(
            "govmiddleware_upstream_failures",
            "Calls that the upstream failed. code: upstream_unreachable, upstream_timeout, upstream_busy, "
            "upstream_cut, or the status that it answered: 401, 403, 408, 429 or 5xx in full.",
            ["provider", "code"],
            registry=registry,
        )
        self.refusals = Counter(
            "govmiddleware_refusals",
            "Requests we refused. limit: the limit that answered, or empty.",
            ["code", "limit"],
            registry=registry,
        )

    def _declare_use(self, registry: CollectorRegistry) -> None:
        self.tokens = Counter(
            "govmiddleware_tokens",
            "Tokens settled, by kind: input (includes cached), cached, output (includes reasoning), reasoning.",
            ["kind", "provider", "model"],
            registry=registry,
        )
        self.cost = Counter(
            "govmiddleware_cost_usd", "Cost settled, in USD.", ["provider", "model"], registry=registry
        )
        self.reserved_tokens = Counter(
            "govmiddleware_reserved_tokens",
            "Tokens that were reserved for the calls that are settled, by kind: input, output.",
            ["kind", "provider", "model"],
            registry=registry,
        )
        self.reserved = Counter(
            "govmiddleware_reserved_usd",
            "Cost that was reserved for the calls that are settled, in USD.",
            ["provider", "model"],
            registry=registry,
        )
        self.debt = Counter(
            "govmiddleware_debt_usd",
            "Cost settled beyond what was reserved for the call, in USD.",
            ["provider", "model"],
            registry=registry,
        )
        self.settlements = Counter(
            "govmiddleware_settlements",
            "Requests settled, by how sure their amounts are: exact, estimated, aborted.",
            ["settlement"],
            registry=registry,
        )

    def _declare_estimates(self, registry: CollectorRegistry) -> None:
        self.estimate_ratio = Histogram(
            "govmiddleware_estimate_ratio",
            "Input tokens that the provider reported, over those estimated, where the estimate covers all of the "
            "prompt: no media, hosted tools or references.",
            ["protocol"],
            buckets=_RATIOS,
            registry=registry,
        )
        self.input_bounds = Counter(
            "govmiddleware_input_bounds",
            "Settled requests whose input the provider reported. size: shown, or unknown where media, hosted tools or "
            "references were in it. held: whether it was within what was reserved (yes, no).",
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
        self.counted_characters = Counter(
            "govmiddleware_counted_characters",
            "Characters of long texts in prompts, by where their count is from: counter or memory.",
            ["source"],
            registry=registry,
        )

    def _declare_limits(self, registry: CollectorRegistry) -> None:
        self.dry_run_refusals = Counter(
            "govmiddleware_dry_run_refusals",
            "Requests that limits in dry_run would have refused. limit: the one that would have answered.",
            ["limit"],
            registry=registry,
        )
        self.limit_events = Counter(
            "govmiddleware_limit_events",
            "Times that a limit's value was crossed, one for each value of its scope and window. kind: rate, which is "
            "crossed every day, or budget. past: soft or hard.",
            ["limit", "kind", "past"],
            registry=registry,
        )
        self.webhook_messages = Counter(
            "govmiddleware_webhook_messages",
            "Messages for the webhook, by what became of them: delivered, failed (given up), dropped (too many wait).",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("delivered", "failed", "dropped"):
            self.webhook_messages.labels(outcome)
        self.open_reservations = Gauge(
            "govmiddleware_open_reservations",
            "Reservations of calls that run.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.oldest_reservation = Gauge(
            "govmiddleware_oldest_reservation_seconds",
            "For how long the oldest of the reservations of calls that run has been open.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.overspend_bound = Gauge(
            "govmiddleware_overspend_bound_usd",
            "What running streams could cost beyond what they have reserved so far, at the most.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.swept = Counter(
            "govmiddleware_swept_reservations",
            "Reservations whose worker was lost, settled as reserved. What they cost is in the journal alone.",
            registry=registry,
        )

    def _declare_books(self, registry: CollectorRegistry) -> None:
        self.store_down = Gauge(
            "govmiddleware_store_down",
            "1 while the store takes no writes, so that no call can pass, else 0.",
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
        for script in ("acquire", "settle"):
            self.store_errors.labels(script)
        self.unsent_writes = Gauge(
            "govmiddleware_unsent_writes",
            "Settlements that the store has not taken yet.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.late_settlements = Counter(
            "govmiddleware_late_settlements",
            "Settlements that came after the sweep: their corrections are in the journal.",
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
            "How long the oldest of the records that wait for the journal's database has waited.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.history_down = Gauge(
            "govmiddleware_journal_database_down",
            "1 while the journal's database takes no records, else 0.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.audits = Counter(
            "govmiddleware_audits",
            "Periodic audits of the books, by what they found: clean, differences, or unable where they could not "
            "check.",
            ["result"],
            registry=registry,
        )
        for result in ("clean", "differences", "unable"):
            self.audits.labels(result)

    def _declare_process(self, registry: CollectorRegistry) -> None:
        self.event_loop_lag = Histogram(
            "govmiddleware_event_loop_lag_seconds",
            "How much later than it was due a task of the event loop ran, four times a second.",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        self.build_info = Gauge(
            "govmiddleware_build_info",
            "1. version: of govmiddleware.",
            ["version"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.build_info.labels(version("govmiddleware")).set(1)
