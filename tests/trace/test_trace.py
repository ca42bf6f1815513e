"""The same trace on every store and in every deployment: the same decisions, and the same books."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import ASGIApp, Message

from govmiddleware import Governance
from govmiddleware.services import records
from govmiddleware.services.audit import audit
from govmiddleware.settings import Settings
from govmiddleware.testing.clock import Clock
from tests.stores.kinds import KINDS, as_parameters
from tests.trace import trace
from tests.trace.deployments import DEPLOYMENTS, PATH, Governed

pytestmark = pytest.mark.stores

OWN = ("request_id", "reservation_id", "duration_ms", "price_version")
"""What differs from run to run, and must."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What clients saw, one line a request, and what the books say of each workspace."""

    decisions: list[str]
    books: dict[str, list[dict[str, Any]]]


async def call(app: ASGIApp, step: trace.Step) -> str:
    """What a client may act on in the answer: all but ids and words."""
    seen: dict[str, Any] = {}
    body = bytearray()
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": msgspec.json.encode(step.body), "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen["status"] = message["status"]
            seen["headers"] = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            body.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in step.headers.items()]
        + [(b"host", b"gov"), (b"content-type", b"application/json")],
        "client": ("192.0.2.1", 40000 + step.number),
        "server": ("gov", 80),
        "state": {},
    }
    await app(scope, receive, send)
    told = {
        name: value
        for name, value in seen["headers"].items()
        if name.startswith(("x-gov-", "x-ratelimit-", "retry-after", "x-should-retry"))
        and name != "x-gov-request-id"
    }
    if seen["status"] < 400:
        return f"{step.number} {seen['status']} {sorted(told.items())} {bytes(body)!r}"
    error = msgspec.json.decode(body)["error"]
    for limit in error.get("limits", ()):
        del limit["resets_at"]  # by this machine's clock, unlike retry-after
    # Only a sidecar serves the page that a link leads to; and a link says when.
    link = error.pop("override_url", None)
    error["message"] = error["message"].removesuffix(f" To ask for more: {link}")
    return f"{step.number} {seen['status']} {sorted(told.items())} {error}"


COMPARED = int(os.environ.get("GOV_TRACE_REQUESTS", trace.REQUESTS))
"""How many requests of the trace every store and every deployment is compared by; the reference has all."""


async def follow(governed: Governed, make: Callable[..., Governance], clock: Clock, requests: int) -> Outcome:
    clock.now_ms = round(datetime.fromisoformat(trace.BEGINS).replace(tzinfo=UTC).timestamp() * 1000)
    decisions = []
    async with governed(make) as (app, governance):
        async with governance:
            for step in islice(trace.steps(), requests):
                clock.advance(step.pause)
                decisions.append(await call(app, step))
        async with governance.store():
            findings = await audit(governance.journal)
            assert findings.ok, findings.shown()
            books = {
                workspace: [
                    shown(entry.record) | {"at": entry.at_ms, "holds": sorted(map(str, entry.holds))}
                    async for entry in governance.journal.entries(workspace)
                ]
                for workspace in await governance.journal.workspaces()
            }
    return Outcome(
        decisions,
        {name: [each for each in book if each["kind"] == "outcome"] for name, book in books.items()},
    )


def shown(record: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(records.decode(record))
    return {name: value for name, value in found.items() if name not in OWN}


def run(kind: str, deployment: str, home: Path, *, requests: int = trace.REQUESTS, **given: Any) -> Outcome:
    clock = Clock()
    with KINDS[kind](home / kind) as url, pytest.MonkeyPatch.context() as patch:
        # When bounds learn depends on how long requests really take, and must not differ here.
        patch.setattr("govmiddleware.app.CALIBRATION_SECONDS", 1_000_000)

        def make(**more: Any) -> Governance:
            own = {"redis_url": url, "data_dir": home / "gov"}
            return Governance(Settings(**(own | trace.settings() | given | more)), clock=clock)

        return asyncio.run(follow(DEPLOYMENTS[deployment], make, clock, requests))


def assert_same(found: Outcome, expected: Outcome) -> None:
    """Line by line: pytest would take minutes to show how two long lists differ."""
    assert len(found.decisions) == COMPARED
    for decision, wanted in zip(found.decisions, expected.decisions, strict=False):
        assert decision == wanted
    assert found.books.keys() == expected.books.keys()
    for workspace, book in found.books.items():
        assert book
        for record, wanted_record in zip(book, expected.books[workspace], strict=False):
            assert record == wanted_record


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run("embedded", "in-starlette", tmp_path_factory.mktemp("reference"))


def test_the_trace_meets_every_limit_and_every_kind_of_answer(reference: Outcome) -> None:
    assert len(reference.decisions) == trace.REQUESTS
    statuses = {decision.split()[1] for decision in reference.decisions}
    assert statuses == {"200", "400", "401", "429", "500"}
    refusing = {
        limit["name"]
        for limit in trace.settings()["limits"]
        if any(f"'name': '{limit['name']}'" in decision for decision in reference.decisions)
    }
    slots = {"token-slots"}  # one call at a time never lacks one
    enforced = {limit["name"] for limit in trace.settings()["limits"] if "mode" not in limit}
    assert refusing == enforced - slots
    records = [record for book in reference.books.values() for record in book]
    seen = {
        (each["limit"], each["decision"], each["mode"])
        for record in records
        for each in record["evaluations"]
    }
    assert {("watched", "block", "dry_run"), ("advised", "block", "suggest")} <= seen
    for told in ("x-gov-max-output-tokens", "x-gov-warning", "x-gov-recommendation"):
        assert any(told in decision for decision in reference.decisions), told
    assert {record["settlement"] for book in reference.books.values() for record in book} == {
        "exact",
        "estimated",
    }


@pytest.mark.parametrize("deployment", ["in-fastapi", "as-sidecar"])
def test_every_deployment_decides_the_same_and_keeps_the_same_books(
    deployment: str, reference: Outcome, tmp_path: Path
) -> None:
    assert_same(run("embedded", deployment, tmp_path, requests=COMPARED), reference)


@pytest.mark.parametrize("kind", as_parameters()[1:])
def test_every_store_decides_the_same_and_keeps_the_same_books(
    kind: str, reference: Outcome, tmp_path: Path
) -> None:
    assert_same(run(kind, "in-starlette", tmp_path, requests=COMPARED), reference)


def test_a_dry_run_predicts_what_enforcement_refuses(reference: Outcome, tmp_path: Path) -> None:
    """Which requests, by which limits, though what was refused there was really made here."""
    limits = [limit for limit in trace.settings()["limits"] if limit.get("mode") != "dry_run"]
    dry = run("embedded", "in-starlette", tmp_path, requests=COMPARED, mode="dry_run", limits=limits)
    workspace_of = {f"secret-{token['name']}": token["workspace"] for token in trace.settings()["api_tokens"]}
    records = {workspace: iter(book) for workspace, book in dry.books.items()}
    predicted = 0
    for step, enforced, decision in zip(trace.steps(), reference.decisions, dry.decisions, strict=False):
        if decision.split()[1] in ("400", "401"):
            continue  # it was refused for something else, and leaves no outcome
        record = next(records[workspace_of[step.headers["authorization"].removeprefix("Bearer ")]])
        blocking = {
            each["limit"]
            for each in record["evaluations"]
            if (each["decision"], each["mode"]) == ("block", "dry_run")
        }
        assert blocking == set(re.findall(r"'name': '([\w-]+)'", enforced)), decision
        assert (record["would_refuse"] or "none") in (enforced if blocking else "none"), decision
        predicted += bool(blocking)
    assert predicted > COMPARED // 6
