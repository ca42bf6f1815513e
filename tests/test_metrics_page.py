"""docs/metrics.md names every metric, and their names are what Prometheus wants."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry

from document_metrics import BEGIN, END, PAGE, declared, name_of, table
from govmiddleware.metrics import Metrics


def test_the_page_has_every_metric_as_it_is_declared_and_none_besides() -> None:
    page = PAGE.read_text("utf-8")
    written = page.partition(BEGIN)[2].partition(END)[0]
    assert written == table(), "python tools/document_metrics.py"
    families = Metrics(CollectorRegistry()).registry.collect()
    registered = {f"{each.name}_total" if each.type == "counter" else each.name for each in families}
    assert {name_of(metric) for metric in declared()} == registered
    assert set(re.findall(r"\bgovmiddleware_\w+", page)) == registered


def test_no_page_speaks_of_a_metric_that_does_not_exist() -> None:
    pages = "".join(page.read_text("utf-8") for page in PAGE.parent.glob("*.md"))
    named = set(re.findall(r"`(govmiddleware_[a-z_]+[a-z])[`{]", pages))
    assert named == {name_of(metric) for metric in declared()}


def test_prometheus_finds_nothing_to_complain_of() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    metrics = Metrics(CollectorRegistry())
    for name, metric in vars(metrics).items():
        if labels := getattr(metric, "_labelnames", ()):
            getattr(metrics, name).labels(*["x"] * len(labels))  # else it is not shown
    ran = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics.exposition(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr.decode(), ran.stdout.decode()) == (0, "", "")
