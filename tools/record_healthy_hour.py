"""Records a healthy hour: what two real `govmiddleware serve` answer to scrapes while they govern light traffic.

    uv run python tools/record_healthy_hour.py [--every SECONDS]

It writes observability/alerts/tests/healthy_hour.yml, in which promtool replays the recording against the alert rules and
expects that none fires. Record it again when metrics are renamed or rules ask for new ones.

Both processes share an embedded store and a journal, and have two upstreams: scripted providers, which report the tokens that a
prompt has, some percent more or less. One client calls them in turn. Most of what it sends is answered, streams too; there is
the trouble that every healthy hour has: a rate limit refuses some, a request is wrong, a client leaves, an upstream fails.

The recording that is committed was made on two cores that had other work too, so that its latencies are those of a busy machine.

61 scrapes of each are kept, and promtool takes them as a minute apart. They were made `--every` seconds apart, 4 by default:
all values are as scraped, and a minute of the replay has the traffic of 4 seconds. Kept are the metrics that rules name.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from govmiddleware.core.fast_counter import FastCounter
from govmiddleware.core.ids import hash_api_token
from govmiddleware.core.reference_counter import O200K
from govmiddleware.testing import Script, ScriptedProvider, serve_in_thread

ALERTS = Path(__file__).parent.parent / "observability/alerts"
RULES = ALERTS / "govmiddleware.rules.yml"
FILE = ALERTS / "tests/healthy_hour.yml"
SCRAPES = 61

CONFIGURATION = """
data_dir = "{data}"
audit_seconds = 20
[[api_tokens]]
name = "app"
workspace = "acme"
sha256 = "{sha256}"
[[upstreams]]
name = "anthropic"
url = "{anthropic}"
models = ["claude-*"]
[[upstreams]]
name = "openai"
url = "{openai}"
[[limits]]
name = "hasty-minute"
scope = "user"
value = "hasty"
meter = "requests"
rate = "2/minute"
[[limits]]
name = "user-month"
scope = "user"
meter = "cost_usd"
window = "month"
hard = 1000
"""
HEAD = """# Written by tools/record_healthy_hour.py, which says how it was recorded: {every:g} s lay between two scrapes.
rule_files: [../govmiddleware.rules.yml]
evaluation_interval: 1m

tests:
  - name: nothing fires in a healthy hour
    interval: 1m
    promql_expr_test:
      - expr: count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[1h]))
        eval_time: 1h
        exp_samples: []
      - expr: sum(increase(govmiddleware_requests_total[1h])) > bool 500
        eval_time: 1h
        exp_samples: [{{labels: "{{}}", value: 1}}]
    input_series:
"""

TOPICS = (
    "budgets that hold",
    "the weather in Lisbon",
    "why a lease is renewed",
    "Hofstadter's law",
    "a haiku on queues",
)


KINDS = {"plain": 50, "stream": 25, "claude": 20, "wrong": 2, "leaves": 2, "hasty": 3, "fails": 1}
"""What calls are like, and how many in a hundred or so."""


class Traffic:
    """Calls in turn, until it is told to stop."""

    def __init__(
        self, urls: list[str], secret: str, openai: ScriptedProvider, anthropic: ScriptedProvider
    ) -> None:
        self._urls = itertools.cycle(urls)
        self._openai, self._anthropic = openai, anthropic
        self._client = httpx.Client(headers={"authorization": f"Bearer {secret}"}, timeout=30)
        self._count = FastCounter(O200K)
        self._random = random.Random(7)

    def run(self, stop: threading.Event) -> None:
        for number in itertools.count():
            if stop.wait(self._random.uniform(0.02, 0.15)):
                return
            self._call(number)

    def _call(self, number: int) -> None:
        topic, times = self._random.choice(TOPICS), self._random.randint(1, 9)
        text = f"Write {self._random.randint(1, 400)} words on {topic}. " * times
        tokens = round((self._count([text])[0] + 7) * self._random.uniform(0.97, 1.03))
        answer = {
            "text": "word " * 60,
            "pieces": 20,
            "delay": self._random.expovariate(20),
            "interval": 0.002,
        }
        body = {"max_tokens": 200, "messages": [{"role": "user", "content": text}]}
        [kind] = self._random.choices(list(KINDS), list(KINDS.values()))
        if kind == "claude":
            self._anthropic.exchanges.clear()
            self._anthropic.script = Script(usage={"input_tokens": tokens, "output_tokens": 60}, **answer)
            body |= {"model": "claude-sonnet-5", "stream": True}
            return self._send("/v1/messages", body, f"user-{number % 50}")
        usage = {"prompt_tokens": tokens, "completion_tokens": 60, "total_tokens": tokens + 60}
        self._openai.exchanges.clear()
        self._openai.script = Script(status=500) if kind == "fails" else Script(usage=usage, **answer)
        body |= {"model": "gpt-4o-mini", "stream": kind in ("stream", "leaves")}
        if kind == "wrong":
            body["messages"] = "not a list"
        user = "hasty" if kind == "hasty" else f"user-{number % 50}"
        return self._send("/v1/chat/completions", body, user, leaves=kind == "leaves")

    def _send(self, path: str, body: dict[str, Any], user: str, *, leaves: bool = False) -> None:
        headers = {"x-gov-user": user, "anthropic-version": "2023-06-01"}
        if not path.endswith("/messages"):
            del headers["anthropic-version"]
        with self._client.stream("POST", next(self._urls) + path, json=body, headers=headers) as response:
            if leaves:
                next(response.iter_raw())
            else:
                response.read()


@contextlib.contextmanager
def serving(config: Path) -> Iterator[str]:
    """The URL of a `govmiddleware serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOV_")}
    command = [sys.executable, "-m", "govmiddleware", "serve", "--config", str(config), "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            while process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/gov/readyz").status_code == 200:
                        break
                time.sleep(0.1)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def record(every: float) -> dict[str, list[float | None]]:
    """The values of each series, scrape by scrape; None where a scrape did not have it."""
    secret = secrets.token_urlsafe()
    openai, anthropic = ScriptedProvider(), ScriptedProvider()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        providers = [running.enter_context(serve_in_thread(each)).url for each in (openai, anthropic)]
        config = folder / "govmiddleware.toml"
        config.write_text(
            CONFIGURATION.format(
                data=folder / "data",
                sha256=hash_api_token(secret),
                openai=f"{providers[0]}",
                anthropic=f"{providers[1]}",
            )
        )
        urls = [running.enter_context(serving(config)) for _ in range(2)]
        stop = threading.Event()
        traffic = threading.Thread(target=Traffic(urls, secret, openai, anthropic).run, args=(stop,))
        traffic.start()
        try:
            return _scrape(urls, every)
        finally:
            stop.set()
            traffic.join()


def _scrape(urls: list[str], every: float) -> dict[str, list[float | None]]:
    named = set(re.findall(r"govmiddleware_\w+", RULES.read_text()))
    series: dict[str, list[float | None]] = {}
    started = time.monotonic()
    for number in range(SCRAPES):
        time.sleep(max(0.0, started + number * every - time.monotonic()))
        for instance, url in zip("ab", urls, strict=True):
            target = {"job": "govmiddleware", "instance": f"{instance}:8080"}
            samples = [("up", target, 1.0)]
            for family in text_string_to_metric_families(httpx.get(f"{url}/gov/metrics").text):
                samples += [
                    (each.name, target | each.labels, each.value)
                    for each in family.samples
                    if each.name in named
                ]
            for name, labels, value in samples:
                shown = ", ".join(f'{label}="{text}"' for label, text in labels.items())
                values = series.setdefault(f"{name}{{{shown}}}", [None] * SCRAPES)
                values[number] = value
        print(f"scrape {number + 1} of {SCRAPES}")
    return series


def notation(values: list[float | None]) -> str:
    """As promtool writes series: `3x2` is a 3 and two more, `_x2` two that are missing."""
    runs = [(value, len(list(run))) for value, run in itertools.groupby(values)]
    return " ".join(
        f"_x{length}" if value is None else f"{value:.7g}" + (f"x{length - 1}" if length > 1 else "")
        for value, length in runs
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--every", type=float, default=4, help="seconds between two scrapes; 60 is a real hour"
    )
    every = parser.parse_args().every
    series = record(every)
    lines = [
        f"      - {{series: '{name}', values: '{notation(values)}'}}\n"
        for name, values in sorted(series.items())
    ]
    FILE.write_text(HEAD.format(every=every) + "".join(lines))


if __name__ == "__main__":
    main()
