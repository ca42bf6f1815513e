"""Write the figures of docs/capacity.md from what bench/gateways.py and bench/scale.py measured last.

    python tools/document_capacity.py

Replaces what stands between each `<!-- NAME, by tools/document_capacity.py -->` and the next `<!-- end -->`, and draws
the pictures beside the page. A table whose measurements are missing stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import capacity_pictures

ROOT = Path(__file__).parent.parent
PAGE, PICTURES, RESULTS = ROOT / "docs/capacity.md", ROOT / "docs/pictures", ROOT / "bench/results"
SECTION = re.compile(r"(<!-- (\w+), by tools/document_capacity\.py -->\n\n).*?(\n<!-- end -->)", re.DOTALL)

NAMES = {
    "bare-aiohttp": "bare pass-through, aiohttp",
    "bare-httpx": "bare pass-through, httpx",
    "forwarder-aiohttp": "our forwarder alone, aiohttp",
    "forwarder-httpx": "our forwarder alone, httpx",
    "auth": "`serve`, authentication only",
    "full": "`serve`, six limits",
    "app": "a Starlette app",
    "app-governed": "the same, governed, six limits",
    "bare-aiohttp-2w": "bare pass-through, 2 workers",
    "full-2w": "`serve`, six limits, 2 workers",
    "litellm": "LiteLLM proxy with its limits",
    "mock": "the mock upstream itself",
}
BUSY = 0.6
"""How much of a core is planned with, for what comes in bursts."""
RATE, USERS = 100_000, 10_000_000

Results = dict[str, Any]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine(gateways: Results, scale: Results) -> str:
    found = gateways["machine"]
    libraries = ", ".join(f"{name} {found[name]}" for name in ("aiohttp", "httpx", "uvicorn", "uvloop"))
    return (
        f"{found['cores']} shared cores ({found['kind']}) for the load, the upstream, the gateway and the store together;"
        f" Python {found['python']}, {libraries}; store: {scale['store']}. Its load average was {found['load']:.1f} when"
        " the run began.\n"
    )


def demands(gateways: Results, scale: Results) -> str:
    words = {True: "yes", False: "no", None: ""}
    rows = [
        [str(bar["number"]), bar["what"], bar["bar"], bar["measured"], words[bar["passed"]]]
        for bar in gateways["bars"]
    ]
    return table(["", "what", "bar", "measured", "holds"], rows)


def answers(gateways: Results, scale: Results) -> str:
    head = [
        "",
        "connections",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU us a request",
        "MB",
        "store us",
        "commands",
    ]
    figures = ("requests_per_second", "p50_ms", "p99_ms", "cpu_us", "memory_mb", "store_us", "store_commands")
    return _cases(gateways, "json", head, figures)


def streams(gateways: Results, scale: Results) -> str:
    head = ["", "connections", "streams/s", "first byte p50 ms", "whole p50 ms", "CPU us a stream", "MB"]
    figures = ("requests_per_second", "first_p50_ms", "p50_ms", "cpu_us", "memory_mb")
    return _cases(gateways, "stream", head, figures)


def agents(gateways: Results, scale: Results) -> str:
    head = ["", "connections", "turns/s", "first byte p50 ms", "whole p50 ms", "CPU us a turn", "MB"]
    figures = ("requests_per_second", "first_p50_ms", "p50_ms", "cpu_us", "memory_mb")
    return _cases(gateways, "agent", head, figures)


def _cases(gateways: Results, kind: str, head: list[str], figures: tuple[str, ...]) -> str:
    rows = []
    for name, case in gateways["cases"].items():
        of, target, connections = name.split("/")
        if of == kind:
            rows.append([NAMES[target], connections, *(figure(case.get(each)) for each in figures)])
    return table(head, rows)


def growth(gateways: Results, scale: Results) -> str:
    figures = ("acquire_us", "settle_us", "server_cpu_us", "client_cpu_us", "memory_mb")
    rows = (
        [name, f"{int(count):,}", *(figure(point.get(each)) for each in figures)]
        for grows, name in CURVES.items()
        for count, point in scale[grows].items()
    )
    head = ["", "", "acquire us", "settle us", "store's CPU us for both", "client's CPU us for both", "MB"]
    return table(head, rows)


def served_limits(gateways: Results, scale: Results) -> str:
    rows = (
        [count, figure(case["requests_per_second"]), figure(case["cpu_us"]), figure(case["store_us"])]
        for count, case in scale["serve"].items()
    )
    return table(["limits", "requests/s", "CPU us a request", "store us a request"], rows)


CURVES = {
    "limits": "limits",
    "users": "live users",
    "workspaces": "workspaces",
    "reservations": "open reservations",
}


def arithmetic(gateways: Results, scale: Results) -> str:
    case = gateways["cases"]["json/full/16"]
    worker, store = case["cpu_us"], case["store_cpu_us"]
    million = scale["users"]["1000000"]["memory_mb"] if "1000000" in scale["users"] else None
    a_worker, a_store = BUSY * 1e6 / worker, BUSY * 1e6 / store
    shards = -(-RATE // a_store)
    rows = [
        ["CPU of a worker a request", f"{figure(worker)} us", "measured"],
        [
            "CPU of the store a request, its protocol and append-only file included",
            f"{figure(store)} us",
            "measured",
        ],
        [f"requests/s of one worker on a core of its own, {BUSY:.0%} busy", figure(a_worker), "calculated"],
        [f"requests/s of one store, and so of one workspace, {BUSY:.0%} busy", figure(a_store), "calculated"],
        [
            "records/s that one drainer writes into SQLite",
            figure(scale["journal"]["records_per_second"]),
            "measured",
        ],
        ["workers that one store serves", figure(a_store / a_worker), "calculated"],
        [f"worker cores for {RATE:,} requests/s", figure(-(-RATE // a_worker)), "calculated"],
        [f"store cores, masters of a cluster, for {RATE:,} requests/s", figure(shards), "calculated"],
        [
            f"deployments, each with a journal and a drainer, for {RATE:,} requests/s without a pause",
            figure(-(-RATE // (BUSY * scale["journal"]["records_per_second"]))),
            "calculated",
        ],
    ]
    if million is not None:
        every = million * USERS / 1e6
        rows += [
            ["memory of a million users with a monthly budget", f"{figure(million)} MB", "measured"],
            [f"memory of {USERS:,} of them", f"{figure(every)} MB", "calculated"],
            ["of it in each master", f"{figure(every / shards)} MB", "calculated"],
        ]
    return table(["", "", ""], rows)


SECTIONS: dict[str, Callable[[Results, Results], str]] = {
    each.__name__: each
    for each in (machine, demands, answers, streams, agents, growth, served_limits, arithmetic)
}


def draw(gateways: Results, scale: Results) -> Iterator[tuple[str, str]]:
    """Names and contents of the pictures."""
    shown = {
        NAMES[name].replace("`", ""): gateways["cases"][f"json/{name}/16"]["requests_per_second"]
        for name in ("bare-aiohttp", "bare-httpx", "auth", "full", "litellm")
        if f"json/{name}/16" in gateways["cases"]
    }
    title = "Requests a second, one worker, 16 connections"
    yield "gateways.svg", capacity_pictures.bars(title, shown, NAMES["full"].replace("`", ""))
    lines = {
        name: [(int(count), point["server_cpu_us"]) for count, point in scale[grows].items()]
        for grows, name in CURVES.items()
    }
    title = "The store's microseconds of CPU for one acquire and one settle"
    yield "growth.svg", capacity_pictures.curves(title, lines)


def main() -> None:
    gateways, scale = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("gateways", "scale"))
    PICTURES.mkdir(exist_ok=True)
    for name, picture in draw(gateways, scale):
        (PICTURES / name).write_text(picture, "utf-8")
    page = PAGE.read_text("utf-8")
    PAGE.write_text(
        SECTION.sub(lambda found: found[1] + SECTIONS[found[2]](gateways, scale) + found[3], page), "utf-8"
    )


if __name__ == "__main__":
    main()
