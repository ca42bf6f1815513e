"""What the gateway costs, beside bare pass-through proxies and LiteLLM: `python bench/gateways.py [--quick]`.

README.md says what is measured, and how. Nothing but loopback is used, and all that is started ends with it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import scale
from stand import load, report, start, targets, trips, workloads
from stand.bars import bars
from stand.load import Sample
from stand.targets import Target

sys.path.append(str(Path(__file__).parent.parent / "tools"))
import litellm_env

CONNECTIONS = (1, 16, 64)
PROXIES = ("bare-aiohttp", "bare-httpx", "forwarder-aiohttp", "forwarder-httpx")
STREAMED = ("bare-aiohttp", "forwarder-aiohttp", "auth", "full", "litellm")
AGENTS = ("bare-aiohttp", "forwarder-aiohttp", "auth", "full")
COMPARED = ("bare-aiohttp", "full")
PACED = {"chunks": 400, "interval_ms": 5}
"""Streams whose chunks come apart, so that each is a read and a write of its own, as from a provider."""
SMALL = workloads.chat(1_000)
LONG = {"chunks": 85_000, "chunk_bytes": 1_000}
"""A stream of 100 MB."""
SHORTER = LONG | {"chunks": LONG["chunks"] // 100}
REQUESTS = 100_000


@dataclass
class Run:
    """Attributes:
    targets: by name, all answering.
    samples: by case, such as `json/full/16`: one a round.
    """

    folder: Path
    seconds: float
    targets: dict[str, Target] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, case: str, sample: Sample) -> None:
        self.samples.setdefault(case, []).append(sample)

    def some(self, names: Sequence[str]) -> list[Target]:
        return [self.targets[name] for name in names if name in self.targets]

    @property
    def small(self) -> Path:
        return self.folder / "small.json"


def start_all(stack: ExitStack, run: Run, *, with_litellm: bool) -> None:
    folder = run.folder
    upstream = stack.enter_context(targets.mock(folder))
    started = [
        *(targets.proxy(name, upstream, folder) for name in PROXIES),
        targets.sidecar("auth", upstream, folder, limits=""),
        targets.sidecar("full", upstream, folder),
        targets.host_app("app", folder),
        targets.host_app("app-governed", folder),
        targets.proxy("bare-aiohttp-2w", upstream, folder, workers=2),
        targets.sidecar("full-2w", upstream, folder, workers=2),
    ]
    command = litellm_env.directory() / litellm_env.COMMAND
    if with_litellm and command.exists():
        started.append(targets.litellm(command, upstream, folder))
    elif with_litellm:
        print("without LiteLLM: python tools/litellm_env.py builds it")
    run.targets = {each.name: each for each in (upstream, *map(stack.enter_context, started))}
    run.small.write_bytes(SMALL)
    for target in run.targets.values():
        targets.send(target, workloads.CHAT_PATH, SMALL)
        load.with_wrk(target, run.small, connections=16, seconds=1)  # the first calls fill caches


def whole_answers(run: Run) -> None:
    """Calls of 1 KB answered whole, on 1, 16 and 64 connections, and on two workers."""
    for connections in CONNECTIONS:
        for target in run.targets.values():
            if connections == max(CONNECTIONS) or not target.name.endswith("-2w"):
                sample = load.with_wrk(target, run.small, connections=connections, seconds=run.seconds)
                run.add(f"json/{target.name}/{connections}", sample)


def streams(run: Run) -> None:
    """Answers of 40 chunks, and longer ones whose chunks come apart."""
    for connections in (1, 16):
        for target in run.some(STREAMED):
            sample = load.with_client(target, "stream", connections=connections, seconds=run.seconds)
            run.add(f"stream/{target.name}/{connections}", sample)
    for target in run.some(STREAMED):
        run.add(f"chunks/{target.name}/16", load.with_client(target, "stream", connections=16, seconds=0.1, **PACED))


def agents(run: Run) -> None:
    """A coding agent's turns of 115 KB."""
    for connections in (1, 16):
        for target in run.some(AGENTS):
            sample = load.with_client(target, "agent", connections=connections, seconds=run.seconds)
            run.add(f"agent/{target.name}/{connections}", sample)


def megabytes(run: Run) -> None:
    """Prompts of 1 MB one after the other, and small calls without and beside them."""
    for target in run.some(COMPARED):
        sample = load.with_client(target, "megabyte", connections=1, seconds=run.seconds)
        run.add(f"megabyte/{target.name}/1", sample)
        for case in ("quiet", "disturbed"):
            with ExitStack() as beside:
                if case == "disturbed":
                    others = load.in_the_background(target, "megabyte", connections=1, seconds=2 * run.seconds)
                    beside.enter_context(others)
                sample = load.with_wrk(target, run.small, connections=16, seconds=2 * run.seconds)
            run.add(f"{case}/{target.name}/16", sample)


def long_stream(target: Target) -> float:
    """MB that the target takes at most for a stream of 100 MB beyond what it took for one of 1 MB."""
    peaks = []
    for shape in (SHORTER, LONG):
        target.program.forget_peak()
        load.with_client(target, "stream", connections=1, seconds=0.1, **shape)
        peaks.append(target.program.peak_memory_mb())
    return peaks[1] - peaks[0]


def once(run: Run, *, quick: bool) -> dict[str, Any]:
    """What is measured one time."""
    full = run.targets["full"]
    counted = trips.count(full, workloads.CHAT_PATH, SMALL)
    assert full.store is not None
    return {
        "store": full.store.kind,
        "trips_before": counted.before,
        "trips_after": counted.after,
        "long_stream_mb": long_stream(full),
        "imports": start.imports(),
        "seconds_until_ready": start.seconds_until_ready(run.folder),
        "resident": start.resident(full, run.small, requests=REQUESTS, within=5 if quick else 100),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round and no million users: a minute")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-litellm", action="store_true", help="leave the peer out")
    options = parser.parse_args()
    if shutil.which(load.WRK) is None:
        parser.error(load.NEEDS_WRK)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        run = Run(Path(name), seconds=1)
        start_all(stack, run, with_litellm=not options.no_litellm)
        for number in range(1 if options.quick else options.rounds):
            print(f"round {number + 1}, {time.monotonic() - began:.0f} s", flush=True)
            for part in (whole_answers, streams, agents, megabytes):
                part(run)
        found = once(run, quick=options.quick)
    if not options.quick:
        found["million_users"] = scale.million_users()
    cases = {case: report.summary(samples) for case, samples in run.samples.items()}
    results = list(bars(cases, found))
    report.print_cases(cases)
    report.print_bars(results)
    report.write("gateways", {"machine": report.machine(), "cases": cases, "once": found, "bars": [asdict(bar) for bar in results]})
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
