"""Medians over the rounds, as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from stand.load import Sample

COLUMNS = ("requests/s", "best", "p50 ms", "p99 ms", "CPU us", "MB", "store us", "trips", "errors")


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """The median of each figure over the rounds."""

    def median(values: list[float]) -> float:
        return round(statistics.median(values), 3)

    figures = {
        "requests_per_second": median([sample.rate for sample in samples]),
        "best_requests_per_second": round(max(sample.rate for sample in samples), 1),
        "p50_ms": median([sample.figures["p50_ms"] for sample in samples]),
        "p99_ms": median([sample.figures["p99_ms"] for sample in samples]),
        "cpu_us_per_request": median([sample.cpu_us for sample in samples]),
        "memory_mb": median([sample.memory_mb for sample in samples]),
        "errors": sum(sample.figures["errors"] for sample in samples),
        "rounds": len(samples),
    }
    stores = [(sample.store, max(1, sample.figures["requests"])) for sample in samples if sample.store]
    if stores:
        figures |= {
            "store_us_per_request": median(
                [(did.script_us + did.journal_us) / count for did, count in stores]
            ),
            "store_cpu_us_per_request": median([did.cpu_us / count for did, count in stores]),
            "scripts_per_request": median([did.scripts / count for did, count in stores]),
            "trips_per_request": median([did.trips / count for did, count in stores]),
        }
    return figures


def print_cases(results: Mapping[str, Sequence[Sample]]) -> None:
    print(f"{'':28}" + "".join(f"{column:>12}" for column in COLUMNS))
    for case, samples in results.items():
        row = summary(samples)
        cells = [
            f"{row['requests_per_second']:.0f}",
            f"{row['best_requests_per_second']:.0f}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['cpu_us_per_request']:.0f}",
            f"{row['memory_mb']:.0f}",
            f"{row['store_us_per_request']:.0f}" if "store_us_per_request" in row else "",
            f"{row['trips_per_request']:.2f}" if "trips_per_request" in row else "",
            f"{row['errors']:.0f}" if row["errors"] else "",
        ]
        print(f"{case:28}" + "".join(f"{cell:>12}" for cell in cells))
