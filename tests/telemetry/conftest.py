"""A collector on a real server, and what a sidecar with some traffic told it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from redis import Redis
from tests.sidecar.waiting import until
from tests.telemetry.collector import Collector, Point, Told

from govmiddleware import Governance, Settings
from govmiddleware.core.ids import hash_api_token
from govmiddleware.logs import JsonFormatter
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import Script, ScriptedProvider, serve_in_thread
from govmiddleware.testing.bell import Gate
from govmiddleware.testing.provider import Exchange

SECRET = "open sesame"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACED = {
    "traceparent": f"00-{TRACE}-{CALLER}-01",
    "tracestate": "vendor=opaque",
    "baggage": "tenant=blue",
}
SETTINGS: dict[str, Any] = {
    "api_tokens": [{"name": "ci", "workspace": "acme", "sha256": hash_api_token(SECRET)}],
    "prices": [{"model": "m*", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "max_output_tokens": 1000}],
    "telemetry": "otlp",
}
BODY = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 100}
POOR = {"name": "poor", "scope": "user", "value": "bob", "meter": "cost_usd", "window": "day", "hard": 0}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector where the exporters look for one."""
    with collecting(monkeypatch) as collector:
        yield collector


def exporting() -> list[threading.Thread]:
    """The threads that export."""
    return [each for each in threading.enumerate() if each.name.startswith("Otel")]


@contextmanager
def collecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    with serve_in_thread(collector, lifespan="off") as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        yield collector
    until(lambda: not exporting())


@dataclass(frozen=True)
class Story:
    """What became of some calls, by the name of each."""

    answers: dict[str, httpx.Response]
    exchanges: dict[str, Exchange]
    spans: dict[str, list[Told]]
    """Of each call, the server's first."""
    lines: dict[str, dict[str, Any]]
    points: list[Point]


@pytest.fixture(scope="module")
def story(gov_server: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Some calls through one sidecar on a real server, which has ended."""
    provider, lines = ScriptedProvider(), _Lines()
    with Redis.from_url(gov_server) as redis:
        redis.flushall()
    with ExitStack() as stack:
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        collector = stack.enter_context(collecting(monkeypatch))
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests")
        stack.enter_context(lines.kept())
        upstream = stack.enter_context(serve_in_thread(provider))
        settings = Settings(
            **SETTINGS,
            redis_url=gov_server,
            data_dir=tmp_path_factory.mktemp("gov"),
            upstream=upstream.url,
            limits=[POOR],
        )
        with serve_in_thread(Sidecar(Governance(settings))) as sidecar:
            answers, exchanges = _traffic(sidecar.url, provider)
    by_request: dict[str, list[Told]] = {}
    for told in collector.spans:
        by_request.setdefault(told.ids[0], []).append(told)
    spans, said = {}, {}
    for name, answer in answers.items():
        line = lines.by_id[answer.headers["x-gov-request-id"]]
        said[name] = line
        spans[name] = sorted(by_request[line["trace_id"]], key=lambda told: told.kind, reverse=True)
    return Story(answers, exchanges, spans, said, collector.points)


def _traffic(url: str, provider: ScriptedProvider) -> tuple[dict[str, httpx.Response], dict[str, Exchange]]:
    answers: dict[str, httpx.Response] = {}
    exchanges: dict[str, Exchange] = {}
    path, secret = "/v1/chat/completions", {"authorization": f"Bearer {SECRET}"}
    with httpx.Client(base_url=url, headers=secret) as http:

        def call(name: str, /, script: Script | None = None, headers: Any = None, **fields: Any) -> None:
            if script is not None:
                provider.next(script)
            before = len(provider.exchanges)
            answers[name] = http.post(path, json=BODY | fields, headers=headers)
            for exchange in provider.exchanges[before:]:
                exchanges[name] = exchange

        whom = {"x-gov-user": "ann", "x-gov-session": "s1", "x-gov-agent": "planner", "x-request-id": "mine"}
        call("traced", headers=TRACED | whom)
        call("alone")
        call("stream", stream=True)
        call("refused", headers={"x-gov-user": "bob"})
        call("failed", Script(status=500))
        call("limited", Script(status=429))
        call("unknown", headers={"authorization": "Bearer nobody's"})
        call("invented", model="mine")
        gate = Gate()
        gate.let(3)
        provider.next(Script(gate=gate))
        with http.stream("POST", path, json=BODY | {"stream": True}) as answer:
            next(answer.iter_bytes())
            answers["left"] = answer
        until(lambda: provider.exchanges[-1].disconnected_at is not None)
    return answers, exchanges


class _Lines(logging.Handler):
    """The lines of requests, as JSON says them, by the ids of the requests."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.by_id: dict[str, dict[str, Any]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        line = json.loads(self.format(record))
        self.by_id[line["request_id"]] = line

    @contextmanager
    def kept(self) -> Iterator[None]:
        log = logging.getLogger("govmiddleware.requests")
        log.addHandler(self)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(self)
            log.setLevel(logging.NOTSET)
