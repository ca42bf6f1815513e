"""What other stores lose is seen as well: a replica that takes over too early, and one server of a cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.services.worker import LIMITS, Worker, answer
from tests.stores.cluster import cluster
from tests.stores.sentinels import watched
from tests.stores.server import command_at, wait_for

from govmiddleware.core.call import Principal
from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.keys import WorkspaceKeys
from govmiddleware.services import records
from govmiddleware.services.audit import audit

pytestmark = pytest.mark.stores

MakeWorker = Callable[[str], Worker]


async def whole_call(worker: Worker, workspace: str) -> str:
    call = worker.call()
    call.principal = Principal(workspace, "ci")
    async with worker.reservations.hold(call, LIMITS):
        answer(call)
    return call.request_id


async def check(worker: Worker) -> None:
    """As the upkeep does, until the store is there again."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await worker.watch.check()
            except StoreUnavailable:
                await asyncio.sleep(0.02)


async def journaled(worker: Worker, workspace: str) -> list[str | None]:
    entries = worker.journal.entries(workspace)
    return [records.decode(entry.record).request_id async for entry in entries]


async def test_what_a_replica_had_not_received_when_it_took_over_is_reported(
    tmp_path: Path, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(tmp_path) as pair:
        worker = make_worker(pair.url)
        await worker.watch.check()
        kept = await whole_call(worker, "acme")
        master = pair.master
        assert command_at(master.port, "WAIT", 1, 5000) == 1
        command_at(master.port, "ACL", "SETUSER", "default", "-psync", "-sync")
        command_at(master.port, "CLIENT", "KILL", "TYPE", "replica")
        wait_for(master.port, "connected_slaves:0", "INFO", "replication")
        lost = await whole_call(worker, "acme")
        master.kill()
        await asyncio.to_thread(pair.wait_for_failover_from, master)
        await check(worker)
        assert worker.metric("lost_settlements_total") == 1
        assert lost in caplog.text
        assert await journaled(worker, "acme") == [kept]
        assert (await audit(worker.journal)).ok


async def test_what_one_server_of_a_cluster_has_lost_is_reported_and_no_more(
    tmp_path: Path, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    with cluster(tmp_path) as three:
        worker = make_worker(three.url)
        await worker.watch.check()
        server = three.owner_of(WorkspaceKeys("acme").journal)
        others = (f"ws{number}" for number in range(100))
        other = next(name for name in others if three.owner_of(WorkspaceKeys(name).journal) is not server)
        kept = await whole_call(worker, "acme")
        command_at(server.port, "CONFIG", "SET", "appendfsync", "no")  # no write waits for a sync
        (file,) = server.home.rglob("*.incr.aof")
        size = file.stat().st_size
        lost = await whole_call(worker, "acme")
        elsewhere = await whole_call(worker, other)
        server.kill()
        os.truncate(file, size)
        server.start()
        await asyncio.to_thread(three.wait_until_ok)
        await check(worker)
        assert worker.metric("lost_settlements_total") == 1
        assert lost in caplog.text
        assert await journaled(worker, "acme") == [kept]
        assert await journaled(worker, other) == [elsewhere]
        assert (await audit(worker.journal)).ok
