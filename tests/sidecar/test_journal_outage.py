"""The journal's database away under load: no call fails, and then no record is missing.

`GOV_OUTAGE_SECONDS` says for how long (default: 3).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.journal.postgres import Postgres
from tests.journal.whole import whole_journal
from tests.sidecar.conftest import SECRET
from tests.sidecar.load import Call, Scrape, run_provider, send_all
from tests.sidecar.processes import serve_processes
from tests.sidecar.waiting import until

from govmiddleware.app import Governance
from govmiddleware.core.ids import hash_api_token
from govmiddleware.services import records
from govmiddleware.settings import Settings

SECONDS = float(os.environ.get("GOV_OUTAGE_SECONDS", "3"))
AUDIT_KEY = "a key of the audit log that every host has"


@pytest.mark.timeout(240)
def test_while_the_database_is_away_no_call_fails_and_no_record_is_lost_or_doubled(
    tmp_path: Path, gov_store: str, postgres: Postgres
) -> None:
    journal_url = postgres.url(tmp_path.name)
    config = tmp_path / "govmiddleware.toml"
    with run_provider(0, one_error_in=1) as provider:
        config.write_text(
            f"""
            upstream = "{provider.url}"
            redis_url = "{gov_store}"
            journal_url = "{journal_url}"
            audit_key = "{AUDIT_KEY}"
            [[api_tokens]]
            name = "ci"
            workspace = "acme"
            sha256 = "{hash_api_token(SECRET)}"
            [[limits]]
            name = "month"
            scope = "workspace"
            meter = "cost_usd"
            window = "month"
            hard = 1000
            """
        )
        with serve_processes(config, workers=2) as [sidecar]:
            over = threading.Event()

            def calls() -> Iterator[Call]:
                while not over.is_set():
                    yield Call()

            def outage() -> None:
                try:
                    until(lambda: Scrape(sidecar.url).sum("journal_drained_records_total") > 100, within=30)
                    postgres.kill()
                    killed = time.monotonic()
                    readiness = until(lambda: _with_a_warning(sidecar.url), within=30)
                    assert readiness["ready"], "it is no reason to send the load elsewhere"
                    until(lambda: time.monotonic() - killed > SECONDS, within=SECONDS + 10)
                    assert Scrape(sidecar.url).sum("journal_waiting_records") > 100
                    assert Scrape(sidecar.url).sum("journal_lag_seconds") > SECONDS / 2
                    postgres.start()
                    until(lambda: not _with_a_warning(sidecar.url), within=30)
                    # What waited is caught up with, though the load goes on.
                    until(lambda: Scrape(sidecar.url).sum("journal_waiting_records") < 100, within=60)
                finally:
                    over.set()

            failures: list[BaseException] = []
            watching = threading.Thread(target=_noting(outage, failures))
            watching.start()
            statuses = send_all(sidecar.url, calls(), connections=8)
            watching.join()
            assert not failures, failures
            sent = provider.account()["requests"]
            assert statuses == {200: sent}
        log = sidecar.log.read_text()
    assert log.count("database takes no records") <= 2, "once an outage, and by who took over"
    drained, whole = asyncio.run(_read(journal_url, gov_store))
    assert len(set(whole)) == len(whole) == sent
    assert drained == whole, "who ends drains what is left"


def _with_a_warning(url: str) -> dict[str, object] | None:
    answer: dict[str, object] = httpx.get(f"{url}/gov/readyz").raise_for_status().json()
    return answer if answer["warnings"] else None


def _noting(work: object, failures: list[BaseException]) -> object:
    def run() -> None:
        assert callable(work)
        try:
            work()
        except BaseException as error:
            failures.append(error)

    return run


async def _read(journal_url: str, redis_url: str) -> tuple[list[str | None], list[str | None]]:
    """The calls that SQL has, and those that it or the store has."""
    governance = Governance(Settings(redis_url=redis_url, journal_url=journal_url, audit_key=AUDIT_KEY))
    async with governance.store():
        whole = whole_journal(governance.history, governance.journal, "acme")
        drained = governance.history.entries("acme")
        return (
            [records.decode(entry.record).request_id async for entry in drained],
            [records.decode(entry.record).request_id async for entry in whole],
        )
