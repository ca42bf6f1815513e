"""Metrics of several workers add up to what the journal says."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import pytest
from tests.cli.conftest import Ran
from tests.cli.serving import BODY, CONFIGURATION, PATIENCE, TOKEN, Serving, a_held_stream
from tests.sidecar.load import Scrape
from tests.sidecar.waiting import until

from govmiddleware.app import Governance
from govmiddleware.services import records
from govmiddleware.services.records import Record
from govmiddleware.settings import load
from govmiddleware.testing import Script, ScriptedProvider

LIMITED = """
[[limits]]
name = "bobs"
scope = "user"
value = "bob"
meter = "requests"
window = "day"
hard = 2
"""


def journaled() -> list[Record]:
    async def read() -> list[Record]:
        governance = Governance(load())
        async with governance.store():
            entries = [records.decode(entry.record) async for entry in governance.journal.entries("acme")]
        return [record for record in entries if record.kind == "outcome"]

    return asyncio.run(read())


def test_what_four_workers_count_is_what_the_journal_says(
    serve: Callable[..., Serving],
    configured: Callable[[str], str],
    run: Callable[..., Ran],
    provider: ScriptedProvider,
    upstream: str,
) -> None:
    configured(CONFIGURATION + LIMITED)
    serving = serve("--upstream", upstream, "--workers", "4")
    serving.until_workers_serve(4)

    with a_held_stream(serving, provider):
        pass  # the client leaves
    with httpx.Client(
        headers={"connection": "close"}, timeout=PATIENCE
    ) as http:  # so that any worker may be next

        def send(number: int) -> int:
            body = BODY | {"stream": number % 3 == 0, "user": "bob" if number % 5 == 0 else "ann"}
            headers = {} if number % 12 == 0 else TOKEN
            return http.post(f"{serving.url}/v1/chat/completions", json=body, headers=headers).status_code

        provider.next(Script(breaks_after=3))
        assert send(3) == 200
        provider.next(Script(status=500))
        assert send(1) == 500
        with ThreadPoolExecutor(8) as clients:
            statuses = Counter(clients.map(send, range(1, 49)))
    until(lambda: Scrape(serving.url).sum("requests_total") == 51)
    metric = Scrape(serving.url).sum
    assert metric("open_reservations") == 0

    outcomes = journaled()
    used = [record.usage for record in outcomes if record.usage]
    assert metric("settlements_total") == len(outcomes)
    for kind in ("input", "cached", "output", "reasoning"):
        assert metric("tokens_total", kind=kind) == sum(getattr(usage, f"{kind}_tokens") for usage in used), (
            kind
        )
    for name in ("cost", "reserved"):
        journal = sum(Decimal(getattr(record, f"{name}_usd") or 0) for record in outcomes)
        assert metric(f"{name}_usd_total") == pytest.approx(float(journal), rel=1e-9), name
    by_settlement = Counter(record.settlement for record in outcomes)
    assert set(by_settlement) == {"exact", "aborted"}
    for settlement, count in by_settlement.items():
        assert metric("settlements_total", settlement=settlement) == count
    assert metric("requests_total", status="2xx") == statuses[200] + 2
    assert metric("refusals_total", limit="bobs") == statuses[429] > 0
    assert metric("refusals_total", code="invalid_api_key") == statuses[401] == 4
    assert metric("streams_total", end="upstream_cut") == metric("streams_total", end="client_left") == 1

    serving.process.terminate()
    assert serving.ended() == 0
    assert run("audit").code == 0
    assert len(set(re.findall(r"\[(\d+)\] govmiddleware.requests", "".join(serving.lines)))) > 1, (
        "several served"
    )
