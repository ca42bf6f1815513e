"""Vital signs, in metrics: the store, the oldest reservation, the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis as sync_redis
from tests.services.worker import LIMITS, Worker, new_call, until

from govmiddleware import app
from govmiddleware.app import Governance
from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.ledger.keys import NOTHING
from govmiddleware.services.vital_signs import VitalSigns


def signs_of(worker: Worker) -> VitalSigns:
    return VitalSigns(worker.ledger, worker.upkeep, worker.metrics)


@pytest.mark.impatient
async def test_a_store_that_hangs_is_down_until_it_answers_again(
    tmp_path: Path, make_worker: Callable[[str], Worker]
) -> None:
    with EmbeddedStore(tmp_path) as url, sync_redis.Redis.from_url(url) as redis:
        process: int = redis.info("server")["process_id"]
        worker = make_worker(url)
        signs = signs_of(worker)
        await signs.look()
        assert worker.metric("store_down") == 0
        os.kill(process, signal.SIGSTOP)
        try:
            await signs.look()
            assert worker.metric("store_down") == 1
        finally:
            os.kill(process, signal.SIGCONT)
        await signs.look()
        assert worker.metric("store_down") == 0


async def test_a_store_without_memory_is_down_although_it_answers(
    tmp_path: Path, make_governance: Callable[..., Governance]
) -> None:
    with EmbeddedStore(tmp_path) as url, sync_redis.Redis.from_url(url) as redis:
        async with make_governance(redis_url=url) as governance:
            signs = VitalSigns(governance.ledger, governance.upkeep, governance.metrics)
            shown = governance.metrics.registry.get_sample_value
            await signs.look()
            assert (shown("govmiddleware_store_down"), await governance.readiness()) == (0, [])
            assert not redis.exists(NOTHING)
            redis.config_set("maxmemory", 1)
            await signs.look()
            assert shown("govmiddleware_store_down") == 1
            [problem] = await governance.readiness()
            assert "maxmemory" in problem
            redis.config_set("maxmemory", 0)


async def test_a_trip_that_nobody_waits_for_any_more_is_no_error_of_the_store(
    gov_store: str, make_worker: Callable[[str], Worker]
) -> None:
    worker = make_worker(gov_store)
    for error, errors in ((asyncio.CancelledError(), 0), (StoreUnavailable("away"), 1)):
        with pytest.raises(type(error)), worker.metrics.store_trip("acquire"):
            raise error
        assert worker.metric("store_errors_total", script="acquire") == errors


async def test_the_oldest_reservation_is_the_first_of_those_that_are_open(
    gov_store: str, make_worker: Callable[[str], Worker]
) -> None:
    worker = make_worker(gov_store)
    signs = signs_of(worker)
    began = time.monotonic()
    async with worker.reservations.hold(worker.call(), LIMITS):
        first_is_open = time.monotonic()
        await asyncio.sleep(0.05)
        async with worker.reservations.hold(worker.call(), LIMITS):
            asked = time.monotonic()
            await signs.look()
            age = worker.metric("oldest_reservation_seconds") or 0
            assert asked - first_is_open <= age <= time.monotonic() - began
    await signs.look()
    assert worker.metric("oldest_reservation_seconds") == 0


async def test_work_that_holds_up_the_event_loop_shows_as_its_lag(
    gov_store: str, make_worker: Callable[[str], Worker]
) -> None:
    worker = make_worker(gov_store)
    sampling = asyncio.create_task(signs_of(worker).sample_lag())
    await asyncio.sleep(0)  # it begins
    time.sleep(0.4)  # noqa: ASYNC251, to hold it up is the point
    await sampling
    assert worker.metric("event_loop_lag_seconds_count") == 1
    assert (worker.metric("event_loop_lag_seconds_sum") or 0) > 0.1
    assert worker.metric("event_loop_lag_seconds_bucket", le="0.1") == 0


async def test_an_open_governance_measures_them_all_the_time(
    make_governance: Callable[..., Governance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "VITAL_SECONDS", 0.02)
    async with make_governance() as governance:
        registry = governance.metrics.registry
        async with governance.reservations.hold(new_call(), LIMITS):
            await until(lambda: registry.get_sample_value("govmiddleware_oldest_reservation_seconds"))
        await until(lambda: registry.get_sample_value("govmiddleware_event_loop_lag_seconds_count") == 2)
