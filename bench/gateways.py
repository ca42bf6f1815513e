"""What the gateway costs, beside bare pass-through proxies and LiteLLM: `python bench/gateways.py [--quick]`.

See README.md for what is measured, and how.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from stand import load, report, targets, workloads
from stand.load import Sample
from stand.targets import Target

sys.path.append(str(Path(__file__).parent.parent / "tools"))
import litellm_env

CONNECTIONS = (1, 16, 64)
SMALL = workloads.chat(1_000)
Results = dict[str, list[Sample]]
"""By case, such as `json/full/16`: one sample a round."""


def start_all(stack: ExitStack, folder: Path, *, with_litellm: bool) -> list[Target]:
    """Every target, answering."""
    upstream = stack.enter_context(targets.mock(folder))
    started = [
        upstream,
        *(stack.enter_context(targets.proxy(name, upstream, folder)) for name in PROXIES),
        stack.enter_context(targets.sidecar("auth", upstream, folder, limits="")),
        stack.enter_context(targets.sidecar("full", upstream, folder)),
        stack.enter_context(targets.host_app("app", folder)),
        stack.enter_context(targets.host_app("app-governed", folder)),
    ]
    command = litellm_env.directory() / litellm_env.COMMAND
    if with_litellm and command.exists():
        started.append(stack.enter_context(targets.litellm(command, upstream, folder)))
    for target in started:
        targets.check(target, load.CHAT_PATH, SMALL)
    return started


PROXIES = ("bare-aiohttp", "bare-httpx", "forwarder-aiohttp", "forwarder-httpx")


def whole_answers(started: list[Target], folder: Path, results: Results, *, seconds: float) -> None:
    """One round of calls answered whole: each target in turn, on 1, 16 and 64 connections."""
    body = folder / "small.json"
    body.write_bytes(SMALL)
    for connections in CONNECTIONS:
        for target in started:
            sample = load.with_wrk(target, body, connections=connections, seconds=seconds)
            results.setdefault(f"json/{target.name}/{connections}", []).append(sample)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, in a minute")
    parser.add_argument("--no-litellm", action="store_true", help="leave the peer out")
    options = parser.parse_args()
    began = time.monotonic()
    results: Results = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        started = start_all(stack, folder, with_litellm=not options.no_litellm)
        for _ in range(1 if options.quick else 3):
            whole_answers(started, folder, results, seconds=1 if options.quick else 2)
    report.print_cases(results)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
