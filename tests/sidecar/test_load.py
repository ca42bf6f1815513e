"""Much traffic through many workers: everybody who counts comes to the same numbers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET
from tests.sidecar.load import Call, ProviderProcess, Scrape, run_provider, send_all
from tests.sidecar.processes import SidecarProcess, end, serve_processes
from tests.sidecar.waiting import until

from govmiddleware.core.ids import hash_api_token

REQUESTS = int(os.environ.get("GOV_LOAD_REQUESTS", "20000"))
BOBS_LIMIT = REQUESTS // 12


@pytest.fixture
def provider() -> Iterator[ProviderProcess]:
    # More than are asked for: how many come while workers are replaced depends on how fast they are.
    with run_provider(REQUESTS + 10_000, one_error_in=40) as provider:
        yield provider


@pytest.fixture
def config(tmp_path: Path, gov_store: str, provider: ProviderProcess) -> Path:
    path = tmp_path / "govmiddleware.toml"
    path.write_text(
        f"""
        upstream = "{provider.url}"
        redis_url = "{gov_store}"
        [[api_tokens]]
        name = "ci"
        workspace = "acme"
        sha256 = "{hash_api_token(SECRET)}"
        [[limits]]
        name = "bob"
        scope = "user"
        value = "bob"
        meter = "requests"
        window = "lifetime"
        hard = {BOBS_LIMIT}
        [[limits]]
        name = "month"
        scope = "workspace"
        meter = "cost_usd"
        window = "month"
        hard = 1000
        """
    )
    return path


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


@pytest.mark.timeout(300)
def test_metrics_the_usage_report_and_the_upstream_count_the_same(
    config: Path, provider: ProviderProcess, books: Books
) -> None:
    calls = [Call("bob" if n % 10 == 0 else "ann", stream=n % 20 == 1) for n in range(REQUESTS)]
    refused = REQUESTS // 10 - BOBS_LIMIT
    with serve_processes(config, workers=4) as [sidecar]:
        statuses = send_all(sidecar.url, calls, connections=40)
        account = provider.account()
        answered, errors = account["requests"], account["errors"]
        assert answered == account["finished"] == REQUESTS - refused
        assert statuses == {200: answered - errors, 429: refused, 500: errors}

        until(lambda: Scrape(sidecar.url).sum("requests_total") == REQUESTS)
        for scrape in (Scrape(sidecar.url) for _ in range(8)):
            told = {
                "requests": scrape.sum("settlements_total"),
                "finished": scrape.sum("requests_total", status="2xx") + errors,
                "errors": scrape.sum("requests_total", status="5xx"),
                "input_tokens": scrape.sum("tokens_total", kind="input"),
                "output_tokens": scrape.sum("tokens_total", kind="output"),
            }
            assert told == account
            assert scrape.sum("requests_total", status="4xx") == refused
            assert scrape.sum("refusals_total", limit="bob") == refused
            assert scrape.sum("open_reservations") == scrape.sum("unsent_writes") == 0
        end(sidecar.process)  # what was refused too often to be journaled one by one is summed up at the end
    usage = books.usage()
    told = {name: usage[name] for name in ("requests", "refused", "input_tokens", "output_tokens")}
    assert told == {"refused": refused} | {name: account[name] for name in told.keys() - {"refused"}}
    assert books.audit().ok
    assert books.open_reservations() == 0


@pytest.mark.timeout(200)
def test_a_restart_under_load_loses_no_request_and_counts_none_twice(
    config: Path, provider: ProviderProcess, books: Books
) -> None:
    with serve_processes(config, workers=2) as [sidecar]:

        def calls() -> Iterator[Call]:
            for number in count():
                if number == 200:
                    sidecar.process.send_signal(signal.SIGHUP)
                if number % 100 == 0 and sidecar.log.read_text().count(" ended") == 2:
                    return
                yield Call(stream=number % 20 == 1)

        statuses = send_all(sidecar.url, calls(), connections=6)
        sent = statuses.total()
        assert len(sidecar.workers()) == 4
        account = provider.account()
        assert account["requests"] == account["finished"] == sent
        assert statuses == {200: sent - account["errors"], 500: account["errors"]}
        # Those of the workers that have ended are among them.
        scrape = until(lambda: _that_counts(sent, sidecar))
        assert scrape.sum("tokens_total", kind="output") == account["output_tokens"]
        assert scrape.sum("open_reservations") == 0
    usage = books.usage()
    assert {name: usage[name] for name in ("requests", "input_tokens", "output_tokens")} == {
        name: account[name] for name in ("requests", "input_tokens", "output_tokens")
    }
    assert len({record.request_id for record in books.records()}) == len(books.records()) == sent
    assert books.audit().ok


def _that_counts(sent: int, sidecar: SidecarProcess) -> Scrape | None:
    scrape = Scrape(sidecar.url)
    return scrape if scrape.sum("requests_total") == sent else None


@pytest.mark.timeout(200)
def test_workers_killed_under_load_leave_books_that_balance_and_counters_that_never_go_down(
    config: Path, provider: ProviderProcess, books: Books
) -> None:
    config.write_text("lease_seconds = 5\nsweep_seconds = 1\n" + config.read_text())
    with serve_processes(config, workers=2) as [sidecar]:
        counted: list[float] = []

        def look(sent: int) -> None:
            if sent == 550:
                for pid in sidecar.workers():
                    os.kill(pid, signal.SIGKILL)
            elif sent % 100 == 0:
                counted.append(Scrape(sidecar.url).sum("settlements_total"))

        statuses = send_all(sidecar.url, [Call()] * 1500, connections=20, after_each=look)
        assert len(sidecar.workers()) >= 3
        until(lambda: books.open_reservations() == 0, within=30)
        counted.append(Scrape(sidecar.url).sum("settlements_total"))
        assert counted == sorted(counted)
        assert Scrape(sidecar.url).sum("open_reservations") == 0
    assert 0 < statuses[0] <= 20, "one a connection, and nobody who came later"
    assert statuses.total() == 1500
    outcomes = books.records()
    assert provider.account()["requests"] <= len(outcomes) <= 1500
    assert len({record.request_id for record in outcomes}) == len(outcomes)
    assert sum(record.settlement == "expired" for record in outcomes) <= 20
    assert books.audit().ok
