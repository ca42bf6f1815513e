"""What the gateway costs, beside bare pass-through proxies and LiteLLM: `python bench/gateways.py [--quick]`.

README.md says what is measured, and how. Nothing but loopback is used, and all that is started ends with it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import scale
from stand import load, report, start, targets, trips, workloads
from stand.bars import bars
from stand.load import Sample
from stand.processes import end_on_sigterm
from stand.targets import Target

sys.path.append(str(Path(__file__).parent.parent / "tools"))
import litellm_env

LITELLM = litellm_env.directory() / litellm_env.COMMAND
PROXIES = ("bare-aiohttp", "bare-httpx", "forwarder-aiohttp", "forwarder-httpx")
TARGETS = ["mock", *PROXIES, "auth", "full", "app", "app-governed", "bare-aiohttp-2w", "full-2w", "litellm"]
QUICK_TARGETS = ["bare-aiohttp", "full", "app", "app-governed"]
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
    seconds: that one measurement lasts.
    connections: with which calls are answered whole.
    targets: by name, all answering.
    samples: by case, such as `json/full/16`: one a round.
    """

    folder: Path
    seconds: float
    connections: Sequence[int]
    targets: dict[str, Target] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, case: str, measure: Callable[[], Sample]) -> None:
        """What fails, as a peer may under load, is said, and missing from the figures."""
        try:
            self.samples.setdefault(case, []).append(measure())
        except subprocess.SubprocessError as error:
            print(f"{case} failed: {error}", getattr(error, "stderr", ""), file=sys.stderr)

    def some(self, names: Sequence[str]) -> list[Target]:
        return [self.targets[name] for name in names if name in self.targets]

    @property
    def small(self) -> Path:
        return self.folder / "small.json"


def start_all(stack: ExitStack, run: Run, names: Collection[str]) -> None:
    """The targets of these names. All start at once; each has answered a call when this returns."""
    folder = run.folder
    run.small.write_bytes(SMALL)
    upstream = stack.enter_context(targets.mock(folder))
    proxy, sidecar, host_app = targets.proxy, targets.sidecar, targets.host_app
    kinds: dict[str, Callable[[], AbstractContextManager[Target]]] = {
        "mock": lambda: nullcontext(upstream),
        **{name: partial(proxy, name, upstream, folder) for name in PROXIES},
        "auth": lambda: sidecar("auth", upstream, folder, limits=""),
        "full": lambda: sidecar("full", upstream, folder),
        "app": lambda: host_app("app", folder),
        "app-governed": lambda: host_app("app-governed", folder),
        "bare-aiohttp-2w": lambda: proxy("bare-aiohttp-2w", upstream, folder, workers=2),
        "full-2w": lambda: sidecar("full-2w", upstream, folder, workers=2),
        "litellm": lambda: targets.litellm(LITELLM, upstream, folder),
    }
    run.targets = {name: stack.enter_context(start()) for name, start in kinds.items() if name in names}
    for target in run.targets.values():
        targets.wait_until_ready(target, workloads.CHAT_PATH, SMALL)
    for target in run.targets.values():  # the first calls fill caches
        load.with_client(target, "stream", connections=16, seconds=run.seconds)


def whole_answers(run: Run) -> None:
    """Calls of 1 KB answered whole; with two workers on the most connections alone."""
    for connections in run.connections:
        for target in run.targets.values():
            if connections == max(run.connections) or not target.name.endswith("-2w"):
                measure = partial(
                    load.with_wrk, target, run.small, connections=connections, seconds=run.seconds
                )
                run.add(f"json/{target.name}/{connections}", measure)


def streams(run: Run) -> None:
    """Answers of 40 chunks, and longer ones whose chunks come apart."""
    for connections in (1, 16):
        for target in run.some(STREAMED):
            measure = partial(
                load.with_client, target, "stream", connections=connections, seconds=run.seconds
            )
            run.add(f"stream/{target.name}/{connections}", measure)
    for target in run.some(AGENTS):
        run.add(
            f"chunks/{target.name}/16",
            partial(load.with_client, target, "stream", connections=16, seconds=0.1, **PACED),
        )


def agents(run: Run) -> None:
    """A coding agent's turns of 115 KB."""
    for connections in (1, 16):
        for target in run.some(AGENTS):
            measure = partial(load.with_client, target, "agent", connections=connections, seconds=run.seconds)
            run.add(f"agent/{target.name}/{connections}", measure)


def megabytes(run: Run) -> None:
    """Prompts of 1 MB one after the other, and small calls without and beside them."""
    for target in run.some(COMPARED):
        measure = partial(load.with_client, target, "megabyte", connections=1, seconds=run.seconds)
        run.add(f"megabyte/{target.name}/1", measure)
        for case, others in (
            ("quiet", nullcontext()),
            ("disturbed", load.beside(target, "megabyte", seconds=2 * run.seconds)),
        ):
            with others:
                run.add(
                    f"{case}/{target.name}/16",
                    partial(load.with_wrk, target, run.small, connections=16, seconds=2 * run.seconds),
                )


def long_stream(target: Target) -> float:
    """MB that the target takes at most for a stream of 100 MB beyond what it took for one of 1 MB."""
    peaks = []
    for shape in (SHORTER, LONG):
        target.program.forget_peak()
        load.with_client(target, "stream", connections=1, seconds=0.1, **shape)
        peaks.append(target.program.peak_memory_mb())
    return peaks[1] - peaks[0]


def once(run: Run, *, tries: int, within: float) -> dict[str, Any]:
    """What is measured beside the rounds, most of it on a sidecar that has served nothing before.

    Args: tries: for what takes no load; within: seconds for a worker's REQUESTS.
    """
    with (
        targets.mock(run.folder) as upstream,
        targets.sidecar("fresh", upstream, run.folder) as fresh,
    ):
        targets.wait_until_ready(fresh, workloads.CHAT_PATH, SMALL)
        assert fresh.store is not None
        counted = trips.count(fresh, workloads.CHAT_PATH, SMALL)
        found = {
            "store": fresh.store.kind,
            "trips_before": counted.before,
            "trips_after": counted.after,
            "long_stream_mb": long_stream(fresh),
            "resident": start.resident(fresh, run.small, requests=REQUESTS, within=within),
        }
    return found | {
        "imports": start.imports(3 * tries),
        "seconds_until_ready": start.seconds_until_ready(run.folder, tries),
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one round, of what most bars need: a minute or two"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=1, help="that one measurement lasts; 1 at least with wrk"
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="the folder for gateways.json")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.connections, chosen.targets = 1, [1, 16], QUICK_TARGETS
        chosen.parts = [part for part in chosen.parts if part != "million"]
    if shutil.which(load.WRK) is None:
        parser.error(load.NEEDS_WRK)
    if "litellm" in chosen.targets and not LITELLM.exists():
        print("without LiteLLM: python tools/litellm_env.py builds it")
        chosen.targets = [name for name in chosen.targets if name != "litellm"]
    return chosen


def main() -> None:
    chosen = options()
    end_on_sigterm()
    start.compile_bytecode()
    began, machine = time.monotonic(), report.machine()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), chosen.seconds, chosen.connections)
        with ExitStack() as stack:
            start_all(stack, run, chosen.targets)
            for number in range(chosen.rounds):
                print(f"round {number + 1}, after {time.monotonic() - began:.0f} s", flush=True)
                for part in chosen.parts:
                    if part in ROUNDS:
                        ROUNDS[part](run)
        if "once" in chosen.parts:
            found |= once(run, tries=1 if chosen.quick else 5, within=5 if chosen.quick else 100)
    if "million" in chosen.parts:
        found["million_users"] = scale.million_users()
    cases = {case: report.summary(samples) for case, samples in run.samples.items() if samples}
    judged = list(bars(cases, found))
    report.print_cases(cases)
    report.print_bars(judged)
    measured = {"machine": machine, "cases": cases, "once": found}
    report.write(chosen.results / "gateways.json", {**measured, "bars": [asdict(bar) for bar in judged]})
    print(f"{time.monotonic() - began:.0f} s")


ROUNDS = {"answers": whole_answers, "streams": streams, "agents": agents, "megabytes": megabytes}
"""What every round does."""
PARTS = [*ROUNDS, "once", "million"]

if __name__ == "__main__":
    main()
