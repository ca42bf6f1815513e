"""What issue 8 asks for, held against what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Case = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """Attributes:
    number: of the demand.
    passed: None where it was not measured.
    """

    number: int
    what: str
    bar: str
    measured: str
    passed: bool | None


def bars(cases: Mapping[str, Case], once: Mapping[str, Any]) -> Iterator[Bar]:
    """Args: cases: by name, as `report.summary` has them; once: what was measured one time."""

    def at_least(number: int, what: str, least: float, top: str, below: float | None) -> Bar:
        if top not in cases or not below:
            return Bar(number, what, f"at least {least:g}", "not measured", None)
        ratio = cases[top]["requests_per_second"] / below
        return Bar(number, what, f"at least {least:g}", f"{ratio:.2f}", ratio >= least)

    def at_most(number: int, what: str, most: float, unit: str, measured: float | None) -> Bar:
        bar = f"at most {most:g} {unit}".rstrip()
        if measured is None:
            return Bar(number, what, bar, "not measured", None)
        return Bar(number, what, bar, f"{measured:.2f} {unit}".rstrip(), measured <= most)

    def rate(case: str) -> float | None:
        return cases[case]["requests_per_second"] if case in cases else None

    def added(kind: str, figure: str) -> float | None:
        ours, bare = f"{kind}/full/1", f"{kind}/bare-aiohttp/1"
        return cases[ours][figure] - cases[bare][figure] if {ours, bare} <= cases.keys() else None

    def ratio(top: str, below: str, figure: str) -> float | None:
        return cases[top][figure] / cases[below][figure] if {top, below} <= cases.keys() else None

    full, bare = "json/full/16", "json/bare-aiohttp/16"
    yield at_least(1, "full stack, of a bare aiohttp pass-through, 16 connections", 0.35, full, rate(bare))
    yield at_least(
        1, "governed Starlette app, of the app alone", 0.3, "json/app-governed/16", rate("json/app/16")
    )
    litellms = [
        case["best_requests_per_second"] for name, case in cases.items() if name.startswith("json/litellm/")
    ]
    yield at_least(2, "full stack, times LiteLLM's best round", 25, full, max(litellms, default=None))
    yield at_most(3, "added at one connection, p50", 0.6, "ms", added("json", "p50_ms"))
    yield at_most(3, "added at one connection, p99", 3, "ms", added("json", "p99_ms"))
    yield at_most(
        4, "trips to the store before the first byte goes upstream", 2, "", once.get("trips_before")
    )
    yield at_most(4, "trips to the store after", 1, "", once.get("trips_after"))
    yield at_most(
        4, "server time a request, 6 limits and journal", 180, "us", cases.get(full, {}).get("store_us")
    )
    yield at_most(5, "streams: added to the first byte, p50", 1, "ms", added("stream", "first_p50_ms"))
    per_chunk = ratio("chunks/full/16", "chunks/bare-aiohttp/16", "cpu_us")
    yield at_most(5, "streams: CPU per chunk, times the bare one's", 1.5, "", per_chunk)
    yield at_most(5, "streams: memory that 100 MB take beyond 1 MB", 8, "MB", once.get("long_stream_mb"))
    disturbed = ratio("disturbed/full/16", "quiet/full/16", "p99_ms")
    yield at_most(6, "p99 of others while prompts of 1 MB are counted, times without", 2, "", disturbed)
    for use, figures in once.get("imports", {}).items():
        yield at_most(7, f"import of what {use} needs, times its dependencies'", 1.15, "", figures["ratio"])
    yield at_most(7, "serve ready, embedded store included", 2.5, "s", once.get("seconds_until_ready"))
    resident = once.get("resident") or {"requests": 100_000}
    after = f"{resident['requests']:,} requests"
    yield at_most(7, f"a worker's memory after {after}", 150, "MB", resident.get("memory_mb"))
    yield at_most(7, f"its growth over the last four fifths of {after}", 8, "MB", resident.get("growth_mb"))
    million = once.get("million_users", {})
    yield at_most(8, "a million users with a monthly budget", 250, "MB", million.get("memory_mb"))
    yield at_most(8, "admission time among them, times among 100", 1.2, "", million.get("admission_ratio"))
    yield at_most(
        9, "a coding agent's turn: added to the first byte, p50", 2, "ms", added("agent", "first_p50_ms")
    )
    yield at_least(
        9, "a coding agent's turns, of the bare one's", 0.35, "agent/full/16", rate("agent/bare-aiohttp/16")
    )
