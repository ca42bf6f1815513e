"""What the sidecar adds to a call, one after the other: `python bench/latency.py [CALLS]`.

Calls go to a scripted provider in a process of its own, at first directly, then through `govmiddleware serve` on the
embedded store, with four limits: a rate, concurrency, and a budget on money and one on tokens. The two take turns, so
that what else the machine does is in both. Prints the median and the 99th percentile of each in milliseconds, and writes
them to `bench/results/latency.json`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from govmiddleware.core.ids import hash_api_token

CONFIG = f"""
upstream = "UPSTREAM"

[[api_tokens]]
name = "bench"
workspace = "bench"
sha256 = "{hash_api_token("bench")}"

[[limits]]
name = "minute"
scope = "api_token"
meter = "requests"
rate = "1000000/minute"

[[limits]]
name = "slots"
scope = "api_token"
meter = "concurrency"
hard = 100

[[limits]]
name = "month"
scope = "user"
meter = "cost_usd"
window = "month"
hard = 100000

[[limits]]
name = "day"
scope = ["user", "model"]
meter = "total_tokens"
window = "day"
hard = 1_000_000_000_000
"""
PROVIDER = """
import sys
from govmiddleware.testing import ScriptedProvider, serve_in_thread
with serve_in_thread(ScriptedProvider()) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
BODY = {
    "model": "gpt-4o-mini",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "Say hello to the operators of this gateway. " * 20}],
}
HEADERS = {"authorization": "Bearer bench", "x-gov-user": "ann"}
PORT = 18_080


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"GOV_DATA_DIR": str(folder / "data")}
    log = (folder / "log").open("w")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
    with log, subprocess.Popen(command, text=True, env=environment, cwd=folder, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()


def seconds(client: httpx.Client, url: str) -> float:
    began = time.perf_counter()
    answer = client.post(f"{url}/v1/chat/completions", json=BODY, headers=HEADERS)
    taken = time.perf_counter() - began
    answer.raise_for_status()
    return taken


def main(calls: int) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        running([sys.executable, "-c", PROVIDER], Path(name)) as provider,
    ):
        assert provider.stdout is not None
        direct, sidecar = provider.stdout.readline().strip(), f"http://127.0.0.1:{PORT}"
        (Path(name) / "govmiddleware.toml").write_text(CONFIG.replace("UPSTREAM", direct))
        serve = [sys.executable, "-m", "govmiddleware", "serve", "--port", str(PORT)]
        with running(serve, Path(name)), httpx.Client(timeout=30) as client:
            while not _is_ready(client, sidecar):
                time.sleep(0.1)
            for _ in range(50):
                seconds(client, direct), seconds(client, sidecar)
            taken = [(seconds(client, direct), seconds(client, sidecar)) for _ in range(calls)]
    columns = dict(zip(("direct", "sidecar"), zip(*taken, strict=True), strict=True))
    results = {who: _figures(values) for who, values in columns.items()}
    for who, figures in results.items():
        print(f"{who:8}", *(f"{key} {value:6.2f}" for key, value in figures.items()))
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "latency.json").write_text(json.dumps(results, indent=2))


def _figures(values: tuple[float, ...]) -> dict[str, float]:
    return {
        "median_ms": statistics.median(values) * 1000,
        "p99_ms": statistics.quantiles(values, n=100)[98] * 1000,
    }


def _is_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/gov/readyz").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
