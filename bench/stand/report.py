"""Medians over the rounds; what is printed, and what is kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stand.bars import Bar
from stand.load import Sample
from stand.processes import BENCH

RESULTS = BENCH / "results"
COLUMNS = {
    "requests/s": "requests_per_second",
    "best": "best_requests_per_second",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "first byte": "first_p50_ms",
    "CPU us": "cpu_us",
    "MB": "memory_mb",
    "store us": "store_us",
    "its CPU": "store_cpu_us",
    "commands": "store_commands",
    "errors": "errors",
}
TIMES = ("p50_ms", "p99_ms", "first_p50_ms", "first_p99_ms")


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """The median of each figure over the rounds. `..._us` and `store_commands` are a request's share."""

    def median(values: Iterable[float]) -> float:
        return round(statistics.median(values), 3)

    figures = {
        "requests_per_second": median(sample.rate for sample in samples),
        "best_requests_per_second": round(max(sample.rate for sample in samples), 3),
        "cpu_us": median(sample.cpu_us for sample in samples),
        "memory_mb": median(sample.memory_mb for sample in samples),
        "errors": sum(sample.figures["errors"] for sample in samples),
        "rounds": len(samples),
    }
    for name in TIMES:
        if name in samples[0].figures:
            figures[name] = median(sample.figures[name] for sample in samples)
    stores = [(sample.store, max(1, sample.figures["requests"])) for sample in samples if sample.store]
    if stores:
        figures |= {
            "store_us": median(did.command_us / count for did, count in stores),
            "store_cpu_us": median(did.cpu_us / count for did, count in stores),
            "store_commands": median(did.commands / count for did, count in stores),
        }
    return figures


def machine() -> dict[str, Any]:
    """Without its name: what a reader needs to compare, and how busy others keep it."""
    return {
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "kind": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("aiohttp", "httpx", "uvicorn", "uvloop")},
    }


def print_cases(cases: Mapping[str, Mapping[str, float]]) -> None:
    print(f"{'':28}" + "".join(f"{column:>12}" for column in COLUMNS))
    for name, case in cases.items():
        cells = (_cell(case.get(figure)) for figure in COLUMNS.values())
        print(f"{name:28}" + "".join(f"{cell:>12}" for cell in cells).rstrip())


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.2f}"


def print_bars(bars: Iterable[Bar]) -> None:
    words = {True: "pass", False: "FAIL", None: "-"}
    for bar in bars:
        print(f"{bar.number}  {bar.what:66} {bar.bar:>18} {bar.measured:>14}  {words[bar.passed]}")


def write(file: Path, found: Mapping[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n")
