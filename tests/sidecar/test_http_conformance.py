"""The corpus of odd and illegal requests, against the real command: nothing of it reaches a route that it
should not, and nothing that could cost escapes the books, however leniently an upstream may read it."""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from tests.sidecar.books import Books
from tests.sidecar.http_corpus import CASES, SECRET, Case, Fate
from tests.sidecar.lenient import is_metered, is_ranking, readings
from tests.sidecar.processes import serve_processes
from tests.sidecar.recording_upstream import PROMPT_TOKENS, Received, RecordingUpstream, recording_upstream

from govmiddleware.app import Governance
from govmiddleware.core.ids import hash_api_token
from govmiddleware.core.paths import is_under
from govmiddleware.settings import load
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import serve_in_thread

UPSTREAM_KEY = "sk-upstream"
CONFIG = """
upstream = "{upstream}"
upstream_api_key = "{key}"
redis_url = "{store}"
journal_url = "sqlite:///{journal}"
unmetered_routes = "{unmetered_routes}"
admin_token = "the admin's"
[[api_tokens]]
name = "ci"
workspace = "acme"
sha256 = "{sha256}"
[[limits]]
name = "tokens"
scope = "workspace"
meter = "total_tokens"
window = "month"
hard = 1000000000
"""
READS = {"GET", "HEAD", "OPTIONS"}
NEVER_SENT = {
    *("x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"),
    *("x-api-key", "cookie", "proxy", "te", "trailer", "upgrade", "http2-settings", "expect"),
}
LAST = b"GET /gov/healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
"""Sent behind a case: once it is answered, or the connection closed, all before it has been dealt with."""


@dataclass(frozen=True, slots=True)
class Target:
    """A sidecar under attack, the upstream behind it, and its books."""

    address: tuple[str, int]
    upstream: RecordingUpstream
    books: Books
    forwards: bool
    is_ours: bool
    """Whether the server's parser is ours: only then is it known what becomes of each case."""

    @property
    def patience(self) -> float:
        """Seconds."""
        return 10 if self.is_ours else 1

    def metered(self) -> dict[str | None, int]:
        """By request: the input tokens of the model calls in the journal."""
        return {
            record.request_id: record.usage.input_tokens
            for record in self.books.records()
            if record.protocol != "unrecognised" and record.usage
        }

    def attack(self, case: Case) -> bytes:
        """Send the case's bytes, and return all that is answered."""
        self.upstream.requests.clear()
        self.upstream.malformed.clear()
        answer = b""
        with socket.create_connection(self.address, timeout=0.3 if case.cut else self.patience) as connection:
            try:
                connection.sendall(case.raw + LAST)
                while received := connection.recv(65536):
                    answer += received
            except ConnectionError:
                pass
            except TimeoutError:
                assert case.cut or not self.is_ours, "the server waits for more"
        return answer


@pytest.fixture(scope="module", params=["refuse", "forward", "forward on h11 and httpx"])
def target(
    request: pytest.FixtureRequest, gov_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    with Redis.from_url(gov_server) as redis:
        redis.flushall()
    forwards, by_others = request.param != "refuse", "h11" in request.param
    config: Path = tmp_path_factory.mktemp("corpus") / "govmiddleware.toml"
    with ExitStack() as running:
        upstream = running.enter_context(recording_upstream())
        config.write_text(
            CONFIG.format(
                upstream=upstream.url,
                key=UPSTREAM_KEY,
                store=gov_server,
                journal=config.with_name("journal.sqlite"),
                unmetered_routes="forward" if forwards else "refuse",
                sha256=hash_api_token(SECRET),
            )
        )
        if by_others:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(importlib.util, "find_spec", lambda name: None)  # as if there were no aiohttp
                sidecar = Sidecar(Governance(load(config)))
            url = running.enter_context(serve_in_thread(sidecar, http="h11")).url
        else:
            [process] = running.enter_context(serve_processes(config))
            url = process.url
        host, port = url.removeprefix("http://").split(":")
        yield Target((host, int(port)), upstream, Books(gov_server), forwards, not by_others)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_passes_that_should_not(target: Target, case: Case) -> None:
    answer = target.attack(case)
    assert target.upstream.malformed == []
    if target.is_ours:
        _check_fate(case, answer, target)
    reached = target.upstream.requests
    assert len(reached) <= case.raw.count(SECRET.encode()), "each brings a token of its own"
    metered = target.metered() if reached else {}
    for received in reached:
        _check_headers(received)
        assert received.method not in {"CONNECT", "TRACE"}
        [request_id] = received.values("x-request-id")
        paths = readings(received.target)
        assert not any(is_under(path.lower(), "/gov") for path in paths)
        could_cost = received.method not in READS or received.body
        if could_cost and any(map(is_metered, paths)):
            assert metered[request_id] == PROMPT_TOKENS
            _check_body(received)
        elif could_cost:
            assert target.forwards
        if request_id in metered:
            assert not any(map(is_ranking, paths)), "judged as one thing, and served as another"


def _check_fate(case: Case, answer: bytes, target: Target) -> None:
    """What must become of it, beside what must not."""
    passes = case.fate in (Fate.METERED, Fate.READ) or (case.fate is Fate.FORWARDED and target.forwards)
    assert len(target.upstream.requests) == (case.reaches if passes else 0)
    status = answer.removeprefix(b"HTTP/1.1 ")[:3]
    if case.fate is not Fate.ANSWERED:
        assert passes or status[:1] in (b"", b"4")
    assert b'"totals"' not in answer, "nobody here may see the report on usage"


def _check_headers(received: Received) -> None:
    """What the gateway says stands there once; what is for the gateway does not, in no spelling."""
    names = [name.replace("_", "-") for name, _ in received.headers]
    assert not any(name.startswith("x-gov-") for name in names)
    assert not any(name.startswith(("x-forwarded-", "forwarded", "x-real-ip")) for name in names)
    assert NEVER_SENT.isdisjoint(names)
    assert received.values("authorization") == [f"Bearer {UPSTREAM_KEY}"]
    for name in ("authorization", "content-length", "transfer-encoding", "host", "content-type"):
        assert names.count(name) == len(received.values(name)) <= 1


def _check_body(received: Received) -> None:
    """One JSON object without duplicate keys, said to be one, and not encoded."""
    pairs: list[tuple[str, object]] = json.loads(received.body, object_pairs_hook=list)
    assert len(dict(pairs)) == len(pairs)
    assert received.values("content-type") == ["application/json"]
    assert received.values("content-encoding") == []
    assert received.values("accept-encoding") == ["identity"]


def test_the_counters_hold_what_the_journal_says(target: Target) -> None:
    assert target.books.audit().differences == []
