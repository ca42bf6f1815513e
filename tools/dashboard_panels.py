"""What the Grafana dashboard shows: its rows from top to bottom, each with panels and their PromQL.

`HERE` in an expression stands for the labels that the dashboard's variables choose; `PROVIDER` and `MODEL` for those and
the provider, or the provider and the model (`make_dashboard.py` puts them in).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        unit: Grafana's name of it, such as reqps, s, percentunit, currencyUSD.
        queries: expressions by the legend of what they give.
        kind: `stat` shows the last value, `table` one line for each series.
        alert_at: the threshold of the alert on it: a dashed line, and red above it.
        is_stacked: whether the series add up to a whole.
        states: what 0 and 1 mean, where that is all there is.
    """

    title: str
    description: str
    unit: str
    queries: dict[str, str]
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    alert_at: float | None = None
    is_stacked: bool = False
    states: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: list[Panel] = field(default_factory=list)
    across: int = 3
    """How many panels stand side by side."""
    height: int = 8


def quantiles(
    metric: str, labels: str, by: str = "", of: tuple[str, ...] = ("0.5", "0.95", "0.99")
) -> dict[str, str]:
    """Quantiles of a histogram, by legend. Args: by: a label to tell apart."""
    kept = f"le, {by}" if by else "le"
    series = f"sum by ({kept}) (rate({metric}_bucket{{{labels}}}[$__rate_interval]))"
    prefix = f"{{{{{by}}}}} " if by else ""
    return {f"{prefix}p{float(q) * 100:g}": f"histogram_quantile({q}, {series})" for q in of}


AT_A_GLANCE = Row(
    "At a glance",
    across=8,
    height=4,
    panels=[
        Panel(
            "Instances",
            "How many govmiddleware are being scraped.",
            "none",
            {"instances": "count(govmiddleware_build_info{HERE})"},
            kind="stat",
        ),
        Panel(
            "Store",
            "Whether every instance reaches its Redis or Valkey. While it does not, its calls get 503.",
            "none",
            {"store": "max(govmiddleware_store_down{HERE})"},
            kind="stat",
            states=("up", "DOWN"),
        ),
        Panel(
            "Journal's database",
            "Whether it takes records. While it does not, calls go on and records wait in the store.",
            "none",
            {"database": "max(govmiddleware_journal_database_down{HERE})"},
            kind="stat",
            states=("up", "DOWN"),
        ),
        Panel(
            "Requests",
            "Governed requests that ended, refused ones too.",
            "reqps",
            {"requests": "sum(rate(govmiddleware_requests_total{HERE}[$__rate_interval]))"},
            kind="stat",
        ),
        Panel(
            "Refused",
            "The share of requests that we refused, for whatever reason.",
            "percentunit",
            {
                "refused": "(sum(rate(govmiddleware_refusals_total{HERE}[$__rate_interval])) or vector(0)) "
                "/ sum(rate(govmiddleware_requests_total{HERE}[$__rate_interval]))"
            },
            kind="stat",
            alert_at=0.2,
        ),
        Panel(
            "Upstreams fail",
            "The share of requests that their upstream failed.",
            "percentunit",
            {
                "failed": "(sum(rate(govmiddleware_upstream_failures_total{HERE}[$__rate_interval])) or vector(0)) "
                "/ sum(rate(govmiddleware_requests_total{HERE}[$__rate_interval]))"
            },
            kind="stat",
            alert_at=0.05,
        ),
        Panel(
            "Latency, p95",
            "From a request's head to the end of its answer: the time that the model takes is in it.",
            "s",
            quantiles("govmiddleware_request_duration_seconds", "HERE", of=("0.95",)),
            kind="stat",
        ),
        Panel(
            "Cost per hour",
            "What is settled now, as if it went on for an hour.",
            "currencyUSD",
            {"cost": "sum(rate(govmiddleware_cost_usd_total{HERE}[$__rate_interval])) * 3600"},
            kind="stat",
        ),
    ],
)

ALERTS = Row(
    "Alerts that fire",
    across=1,
    height=5,
    panels=[
        Panel(
            "Alerts that fire",
            "Of all govmiddleware that this Prometheus has rules for. The runbook of each is docs/runbooks/ALERT.md.",
            "none",
            {"": 'ALERTS{alertname=~"Govmiddleware.+", alertstate="firing"}'},
            kind="table",
        ),
    ],
)

TRAFFIC = Row(
    "Traffic and refusals",
    panels=[
        Panel(
            "Requests by status",
            "Governed requests that ended, by the class of their status; none: the client left before an answer.",
            "reqps",
            {"{{status}}": "sum by (status) (rate(govmiddleware_requests_total{MODEL}[$__rate_interval]))"},
            is_stacked=True,
        ),
        Panel(
            "Requests by model",
            "The ten models with the most. What has no price is `other`.",
            "reqps",
            {
                "{{provider}} {{model}}": "topk(10, sum by (provider, model) "
                "(rate(govmiddleware_requests_total{MODEL}[$__rate_interval])))"
            },
        ),
        Panel(
            "Requests by protocol",
            "By the API that clients speak.",
            "reqps",
            {
                "{{protocol}}": "sum by (protocol) (rate(govmiddleware_requests_total{MODEL}[$__rate_interval]))"
            },
        ),
        Panel(
            "Refusals by code",
            "Requests that we refused, by the code in their answer.",
            "reqps",
            {"{{code}}": "sum by (code) (rate(govmiddleware_refusals_total{HERE}[$__rate_interval]))"},
            is_stacked=True,
        ),
        Panel(
            "Refusals by limit",
            "The limits that answer 429 (402 to Anthropic's clients).",
            "reqps",
            {
                "{{limit}}": "sum by (limit) "
                '(rate(govmiddleware_refusals_total{HERE, limit!=""}[$__rate_interval]))'
            },
        ),
        Panel(
            "Would be refused",
            "What limits in dry_run would have refused, had they been enforced.",
            "reqps",
            {
                "{{limit}}": "sum by (limit) (rate(govmiddleware_dry_run_refusals_total{HERE}[$__rate_interval]))"
            },
        ),
        Panel(
            "Crossings of limits",
            "How many values (users, tokens, workspaces …) of a limit passed its soft or hard value.",
            "short",
            {
                "{{limit}} {{past}} ({{kind}})": "sum by (limit, kind, past) "
                "(increase(govmiddleware_limit_events_total{HERE}[$__rate_interval]))"
            },
        ),
    ],
)

COST = Row(
    "Cost and tokens",
    panels=[
        Panel(
            "Cost per hour by model",
            "What is settled, as if it went on for an hour: the ten dearest.",
            "currencyUSD",
            {
                "{{provider}} {{model}}": "topk(10, sum by (provider, model) "
                "(rate(govmiddleware_cost_usd_total{MODEL}[$__rate_interval])) * 3600)"
            },
            is_stacked=True,
        ),
        Panel(
            "Cost per hour by provider",
            "What is settled, as if it went on for an hour.",
            "currencyUSD",
            {
                "{{provider}}": "sum by (provider) "
                "(rate(govmiddleware_cost_usd_total{MODEL}[$__rate_interval])) * 3600"
            },
            is_stacked=True,
        ),
        Panel(
            "Tokens by kind",
            "Settled tokens. Input includes cached, output includes reasoning.",
            "short",
            {"{{kind}} /s": "sum by (kind) (rate(govmiddleware_tokens_total{MODEL}[$__rate_interval]))"},
        ),
        Panel(
            "Cost in the time shown",
            "USD by provider and model over the whole range of the dashboard. Who spent it: `govmiddleware usage --by user`.",
            "currencyUSD",
            {
                "": "sort_desc(sum by (provider, model) (increase(govmiddleware_cost_usd_total{MODEL}[$__range])))"
            },
            kind="table",
        ),
        Panel(
            "Input that providers had cached",
            "The share of input tokens that was read from the provider's cache, at its lower price.",
            "percentunit",
            {
                "{{model}}": 'sum by (model) (rate(govmiddleware_tokens_total{MODEL, kind="cached"}[$__rate_interval])) '
                '/ sum by (model) (rate(govmiddleware_tokens_total{MODEL, kind="input"}[$__rate_interval]))'
            },
        ),
        Panel(
            "Settlements",
            "How sure amounts are: exact by the provider's usage; estimated without one; aborted where the answer was cut.",
            "reqps",
            {
                "{{settlement}}": "sum by (settlement) (rate(govmiddleware_settlements_total{HERE}[$__rate_interval]))"
            },
            is_stacked=True,
        ),
    ],
)

RESERVED = Row(
    "Reserved against settled",
    panels=[
        Panel(
            "Reserved and settled",
            "What was reserved for the calls that were settled, and what they cost; as if it went on for an hour.",
            "currencyUSD",
            {
                "reserved": "sum(rate(govmiddleware_reserved_usd_total{MODEL}[$__rate_interval])) * 3600",
                "settled": "sum(rate(govmiddleware_cost_usd_total{MODEL}[$__rate_interval])) * 3600",
            },
        ),
        Panel(
            "Settled of reserved",
            "The lower, the more room is held for nothing while calls run.",
            "percentunit",
            {
                "{{model}}": "sum by (model) (rate(govmiddleware_cost_usd_total{MODEL}[$__rate_interval])) "
                "/ sum by (model) (rate(govmiddleware_reserved_usd_total{MODEL}[$__rate_interval]))"
            },
        ),
        Panel(
            "Tokens settled of reserved",
            "Input follows the estimate's bound, output what clients ask for at the most.",
            "percentunit",
            {
                "{{kind}}": "sum by (kind) (rate(govmiddleware_tokens_total{MODEL}[$__rate_interval])) "
                "/ sum by (kind) (rate(govmiddleware_reserved_tokens_total{MODEL}[$__rate_interval]))"
            },
        ),
        Panel(
            "Debt per hour",
            "Cost beyond what was reserved: limits are passed by no more than this.",
            "currencyUSD",
            {
                "{{provider}} {{model}}": "sum by (provider, model) "
                "(rate(govmiddleware_debt_usd_total{MODEL}[$__rate_interval])) * 3600"
            },
        ),
        Panel(
            "Overspend bound",
            "What the streams that run could cost beyond what they have reserved, at the most (docs/limits.md, Slices).",
            "currencyUSD",
            {"{{instance}}": "sum by (instance) (govmiddleware_overspend_bound_usd{HERE})"},
            is_stacked=True,
        ),
    ],
)

ESTIMATES = Row(
    "Estimates and bounds",
    across=4,
    panels=[
        Panel(
            "Reported over estimated input",
            "1 is a perfect estimate; above it the provider counted more than we did.",
            "percentunit",
            quantiles("govmiddleware_estimate_ratio", "HERE", "protocol", ("0.1", "0.5", "0.9")),
        ),
        Panel(
            "Bounds that held",
            "The share of prompts that took no more than was reserved. bound_coverage says how many should (0.99).",
            "percentunit",
            {
                "{{protocol}} {{model}}": "sum by (protocol, model) "
                '(increase(govmiddleware_input_bounds_total{HERE, model=~"$model", size="shown", held="yes"}[1h])) '
                "/ sum by (protocol, model) "
                '(increase(govmiddleware_input_bounds_total{HERE, model=~"$model", size="shown"}[1h]))'
            },
        ),
        Panel(
            "Learned factor",
            "By how much the bound exceeds the estimate, as learned for the workspace of the last settled request.",
            "none",
            {
                "{{model}} from {{from_tokens}}": "max by (model, from_tokens) "
                '(govmiddleware_input_bound_factor{HERE, model=~"$model"})'
            },
        ),
        Panel(
            "Texts counted anew",
            "Characters of long texts a second: counted, or known from memory.",
            "short",
            {
                "{{source}}": "sum by (source) (rate(govmiddleware_counted_characters_total{HERE}[$__rate_interval]))"
            },
            is_stacked=True,
        ),
    ],
)

LATENCY = Row(
    "Latency and streams",
    panels=[
        Panel(
            "Latency",
            "From a request's head to the end of its answer.",
            "s",
            quantiles("govmiddleware_request_duration_seconds", "PROVIDER"),
        ),
        Panel(
            "Latency by provider, p95",
            "From a request's head to the end of its answer.",
            "s",
            quantiles("govmiddleware_request_duration_seconds", "PROVIDER", "provider", ("0.95",)),
        ),
        Panel(
            "First chunk",
            "Of streams: from a request's head to the first bytes of its answer's body.",
            "s",
            quantiles("govmiddleware_time_to_first_chunk_seconds", "PROVIDER"),
        ),
        Panel(
            "First chunk by provider, p95",
            "Of streams: from a request's head to the first bytes of its answer's body.",
            "s",
            quantiles("govmiddleware_time_to_first_chunk_seconds", "PROVIDER", "provider", ("0.95",)),
        ),
        Panel(
            "Streams by end",
            "Whole, or because the client left, the upstream broke off, or a limit cut them.",
            "reqps",
            {"{{end}}": "sum by (end) (rate(govmiddleware_streams_total{HERE}[$__rate_interval]))"},
            is_stacked=True,
        ),
        Panel(
            "Streams that did not end whole",
            "Their share of all streams, by protocol and reason.",
            "percentunit",
            {
                "{{protocol}} {{end}}": "sum by (protocol, end) "
                '(rate(govmiddleware_streams_total{HERE, end!="whole"}[$__rate_interval])) '
                "/ on (protocol) group_left () "
                "sum by (protocol) (rate(govmiddleware_streams_total{HERE}[$__rate_interval]))"
            },
        ),
    ],
)

UPSTREAMS = Row(
    "Upstreams",
    panels=[
        Panel(
            "Failures by code",
            "Calls that an upstream failed: upstream_unreachable, _timeout, _busy, _cut, or the status that it answered.",
            "reqps",
            {
                "{{provider}} {{code}}": "sum by (provider, code) "
                "(rate(govmiddleware_upstream_failures_total{PROVIDER}[$__rate_interval]))"
            },
            is_stacked=True,
        ),
        Panel(
            "Share that fails",
            "Of the requests to each provider.",
            "percentunit",
            {
                "{{provider}}": "sum by (provider) "
                "(rate(govmiddleware_upstream_failures_total{PROVIDER}[$__rate_interval])) "
                "/ sum by (provider) (rate(govmiddleware_requests_total{PROVIDER}[$__rate_interval]))"
            },
            alert_at=0.05,
        ),
        Panel(
            "Requests by provider",
            "`none`: refused before a provider was chosen.",
            "reqps",
            {
                "{{provider}}": "sum by (provider) (rate(govmiddleware_requests_total{PROVIDER}[$__rate_interval]))"
            },
            is_stacked=True,
        ),
    ],
)
