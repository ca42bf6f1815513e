"""The lower half of the Grafana dashboard: what the stack stands on. Written as `dashboard_panels.py` is."""

from __future__ import annotations

from dashboard_panels import Panel, Row, quantiles

STORE = Row(
    "Store",
    across=4,
    panels=[
        Panel(
            "Trips, p50 and p99",
            "As the callers saw them, by script. At 0.25 s a trip fails.",
            "s",
            quantiles("govmiddleware_store_seconds", "HERE", "script", ("0.5", "0.99")),
            alert_at=0.1,
        ),
        Panel(
            "Trips",
            "By script: acquire admits a call, renew keeps it open, settle ends it.",
            "ops",
            {
                "{{script}}": "sum by (script) (rate(govmiddleware_store_seconds_count{HERE}[$__rate_interval]))"
            },
        ),
        Panel(
            "Errors",
            "Trips that failed. A call whose admission fails is refused with 503.",
            "ops",
            {
                "{{script}}": "sum by (script) (rate(govmiddleware_store_errors_total{HERE}[$__rate_interval]))"
            },
        ),
        Panel(
            "Down",
            "1 while the store does not answer an instance.",
            "none",
            {"{{instance}}": "max by (instance) (govmiddleware_store_down{HERE})"},
        ),
        Panel(
            "Unsent settlements",
            "What the store has not taken yet. It is sent until it is; a crash before leaves the calls charged as reserved.",
            "short",
            {"{{instance}}": "sum by (instance) (govmiddleware_unsent_writes{HERE})"},
            alert_at=0,
        ),
        Panel(
            "Lost by the store",
            "Settlements that could not be made again, and calls of workspaces whose counters are gone.",
            "short",
            {
                "settlements": "sum(increase(govmiddleware_lost_settlements_total{HERE}[$__rate_interval]))",
                "calls of lost workspaces": "sum(increase(govmiddleware_lost_workspaces_total{HERE}[$__rate_interval]))",
            },
            alert_at=0,
        ),
    ],
)

RESERVATIONS = Row(
    "Reservations",
    across=4,
    panels=[
        Panel(
            "Open",
            "Reservations of calls that run.",
            "short",
            {"{{instance}}": "sum by (instance) (govmiddleware_open_reservations{HERE})"},
            is_stacked=True,
        ),
        Panel(
            "Oldest",
            "For how long the oldest of them has been open.",
            "s",
            {"{{instance}}": "max by (instance) (govmiddleware_oldest_reservation_seconds{HERE})"},
            alert_at=3600,
        ),
        Panel(
            "Swept",
            "Settled as reserved, as their worker died or hung.",
            "short",
            {"swept": "sum(increase(govmiddleware_swept_reservations_total{HERE}[$__rate_interval]))"},
            alert_at=0,
        ),
        Panel(
            "Late settlements",
            "Of swept calls that ended after all: the journal has a correction of each.",
            "short",
            {"late": "sum(increase(govmiddleware_late_settlements_total{HERE}[$__rate_interval]))"},
        ),
    ],
)

JOURNAL = Row(
    "Journal and audits",
    across=4,
    panels=[
        Panel(
            "Waiting records",
            "In the store, and not in the journal's database yet. At journal_max_records of a workspace its calls get 503.",
            "short",
            {"waiting": "max(govmiddleware_journal_waiting_records{HERE})"},
            alert_at=4e6,
        ),
        Panel(
            "Lag",
            "How long the oldest of them has waited.",
            "s",
            {"lag": "max(govmiddleware_journal_lag_seconds{HERE})"},
            alert_at=120,
        ),
        Panel(
            "Drained",
            "Records copied into the database, by the instance whose turn it is.",
            "ops",
            {
                "{{instance}}": "sum by (instance) "
                "(rate(govmiddleware_journal_drained_records_total{HERE}[$__rate_interval]))"
            },
        ),
        Panel(
            "Database down",
            "1 while the journal's database takes no records.",
            "none",
            {"down": "max(govmiddleware_journal_database_down{HERE})"},
        ),
        Panel(
            "Audits",
            "Periodic audits in the last hour: clean; differences; unable, where they could not check.",
            "short",
            {"{{result}}": "sum by (result) (increase(govmiddleware_audits_total{HERE}[1h]))"},
        ),
        Panel(
            "Webhook messages",
            "Delivered; failed, where an hour of trying was in vain; dropped, where too many waited.",
            "short",
            {
                "{{outcome}}": "sum by (outcome) "
                "(increase(govmiddleware_webhook_messages_total{HERE}[$__rate_interval]))"
            },
        ),
    ],
)

PROCESS = Row(
    "Processes",
    across=4,
    panels=[
        Panel(
            "Event-loop lag, p99",
            "How much later than due a task ran. Every call and stream of that instance waits as long.",
            "s",
            quantiles("govmiddleware_event_loop_lag_seconds", "HERE", "instance", ("0.99",)),
            alert_at=0.25,
        ),
        Panel(
            "CPU",
            "Cores used. Shown by instances of one worker; with more, look at the container's.",
            "none",
            {"{{instance}}": "rate(process_cpu_seconds_total{HERE}[$__rate_interval])"},
        ),
        Panel(
            "Memory",
            "Resident. Shown by instances of one worker; with more, look at the container's.",
            "bytes",
            {"{{instance}}": "process_resident_memory_bytes{HERE}"},
        ),
        Panel(
            "Open files",
            "Connections of clients, upstreams and store among them, over what the process may open. Of one worker.",
            "percentunit",
            {"{{instance}}": "process_open_fds{HERE} / process_max_fds{HERE}"},
        ),
        Panel(
            "Versions",
            "How many instances run each version.",
            "short",
            {"{{version}}": "count by (version) (govmiddleware_build_info{HERE})"},
            is_stacked=True,
        ),
    ],
)
