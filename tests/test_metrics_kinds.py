"""Our counters, gauges and histograms show what prometheus_client's own would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import (
    CollectorRegistry,
    disable_created_metrics,
    enable_created_metrics,
    generate_latest,
)

from govmiddleware import metrics_kinds

BUCKETS = (0.1, 0.25, 1.0)
OBSERVED = (0.0, 0.1, 0.2, 0.25, 0.25, 0.3, 1, 1.0001, 70, float("inf"))


def shown(kinds: Any) -> str:
    """By kinds of `prometheus_client` or of ours."""
    registry = CollectorRegistry()
    calls = kinds.Counter("calls", "Calls.", ["model", "status"], registry=registry)
    swept = kinds.Counter("swept", "Swept.", registry=registry)
    kinds.Counter("none_yet", "None.", ["model"], registry=registry)
    waiting = kinds.Gauge("waiting", "Waiting.", multiprocess_mode="livesum", registry=registry)
    factor = kinds.Gauge("factor", "Factor.", ["model"], multiprocess_mode="livemax", registry=registry)
    seconds = kinds.Histogram("seconds", "Seconds.", ["model"], buckets=BUCKETS, registry=registry)
    lag = kinds.Histogram("lag", "Lag.", buckets=BUCKETS, registry=registry)
    for status, amount in (("2xx", 1), ("2xx", 2.5), ("5xx", 0)):
        calls.labels('of "quotes"', status).inc(amount)
    swept.inc()
    waiting.inc(3)
    waiting.inc(-1)
    factor.labels("m").set(1.5)
    for value in OBSERVED:
        seconds.labels("m").observe(value)
    lag.observe(0.5)
    return generate_latest(registry).decode()


def test_a_scrape_sees_what_it_would_see_of_prometheus_clients_own() -> None:
    disable_created_metrics()
    try:
        theirs = shown(prometheus_client)
    finally:
        enable_created_metrics()
    assert shown(metrics_kinds) == theirs


def test_the_wrong_number_of_labels_is_an_error() -> None:
    counter = metrics_kinds.Counter("calls", "Calls.", ["model"], registry=CollectorRegistry())
    with pytest.raises(ValueError, match="calls has labels"):
        counter.labels("m", "2xx")
    with pytest.raises(ValueError, match="calls has labels"):
        counter.inc()


PROCESS = f"""
import json, sys
from prometheus_client import CollectorRegistry
from govmiddleware.metrics import Metrics, share_as
share_as(sys.argv[1])
metrics = Metrics()
metrics.cut_streams.inc(2)
metrics.open_reservations.set(3)
for value in {OBSERVED[:-1]}:
    metrics.store_seconds.labels("settle").observe(value)
metrics.share()
shown = metrics.exposition().decode().splitlines()
print(json.dumps([line for line in shown if "cut_streams_total " in line or "open_res" in line or "seconds_" in line]))
"""


def test_processes_add_up_and_one_with_the_name_of_a_dead_one_goes_on_with_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(metrics_kinds.DIRECTORY, str(tmp_path))
    for name in ("1", "2", "1"):
        ran = subprocess.run(
            [sys.executable, "-c", PROCESS, name], capture_output=True, text=True, check=True
        )
    lines = json.loads(ran.stdout)
    assert "govmiddleware_cut_streams_total 6.0" in lines
    assert "govmiddleware_open_reservations 6.0" in lines
    of_trips = [line for line in lines if 'script="settle"' in line]
    assert 'govmiddleware_store_seconds_count{script="settle"} 27.0' in of_trips
    assert 'govmiddleware_store_seconds_bucket{le="0.1",script="settle"} 6.0' in of_trips
    assert 'govmiddleware_store_seconds_bucket{le="0.25",script="settle"} 15.0' in of_trips
    total = 3 * sum(OBSERVED[:-1])
    assert f'govmiddleware_store_seconds_sum{{script="settle"}} {total:.4f}'[:-2] in "".join(of_trips)
