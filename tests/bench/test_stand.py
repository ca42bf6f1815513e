"""bench/gateways.py measures what it says, end to end, on as little as that takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import document_capacity
from stand.bars import bars
from stand.load import NEEDS_WRK

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.skipif(shutil.which("wrk") is None, reason=NEEDS_WRK)
def test_a_short_run_measures_the_sidecar_and_its_store(tmp_path: Path) -> None:
    chosen = ["--targets", "full", "--parts", "answers", "streams", "--connections", "2"]
    short = ["--rounds", "1", "--seconds", "0.1", "--results", str(tmp_path)]
    command = [sys.executable, str(BENCH / "gateways.py"), *chosen, *short]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr

    found = json.loads((tmp_path / "gateways.json").read_text())
    assert set(found["cases"]) == {"json/full/2", "stream/full/1", "stream/full/16", "chunks/full/16"}
    for case in found["cases"].values():
        assert case["requests_per_second"] > 0
        assert case["errors"] == 0
        assert case["cpu_us"] > 0
        assert case["memory_mb"] > 50
        assert case["store_commands"] >= 1, "each call is admitted and settled by the store"
        assert case["store_us"] > 0
    stream = found["cases"]["stream/full/1"]
    assert 0 < stream["first_p50_ms"] <= stream["p50_ms"]
    assert found["cases"]["chunks/full/16"]["p50_ms"] >= 400 * 5, "each chunk waits for its turn"

    assert "not measured" in ran.stdout, "bars that need more say so"
    assert "`serve`, six limits | 2 |" in document_capacity.answers(found, {})


def test_a_bar_is_passed_missed_or_not_measured() -> None:
    def case(rate: float, p99_ms: float) -> dict[str, float]:
        return {"requests_per_second": rate, "p50_ms": 1.0, "p99_ms": p99_ms}

    cases = {"json/full/16": case(30.0, 9.0), "json/bare-aiohttp/16": case(100.0, 3.0)}
    cases |= {"json/full/1": case(30.0, 9.0), "json/bare-aiohttp/1": case(100.0, 3.0)}
    judged = {bar.what: bar for bar in bars(cases, {"trips_before": 2, "trips_after": 2})}
    ratio = judged["full stack, of a bare aiohttp pass-through, 16 connections"]
    assert (ratio.number, ratio.bar, ratio.measured, ratio.passed) == (1, "at least 0.35", "0.30", False)
    assert judged["added at one connection, p50"].passed is True
    assert judged["added at one connection, p99"].passed is False
    assert judged["trips to the store before the first byte goes upstream"].passed is True
    assert judged["trips to the store after"].passed is False
    assert judged["full stack, times LiteLLM's best round"].passed is None


def test_each_table_of_the_capacity_page_is_one_that_the_tool_writes() -> None:
    page = document_capacity.PAGE.read_text("utf-8")
    found = [section[2] for section in document_capacity.SECTION.finditer(page)]
    assert sorted(found) == sorted(document_capacity.SECTIONS)
    assert page.count("<!-- end -->") == len(found)
