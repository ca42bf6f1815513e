"""What `appendfsync everysec` can lose of what was acknowledged, and that it is told."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import ConnectionError, Redis
from tests.embedded.deployment import Deployment
from tests.embedded.users import client, kill, server_pid
from tests.sidecar.waiting import until

from govmiddleware.ledger.embedded import EmbeddedStore

SyncsIn = Callable[[float], None]

SLOW = 1.9
"""Seconds. For less than two the store holds writes back rather than wait for the disk."""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("library") / "slow_sync.so"
    source = Path(__file__).with_name("slow_sync.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


@pytest.fixture
def disk_syncs_in(library: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> SyncsIn:
    """Says how long a sync takes, in seconds, in the servers started in the test; at first none."""
    file = tmp_path_factory.mktemp("disk") / "sync_ms"
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("GOV_SYNC_MS", str(file))

    def take(seconds: float) -> None:
        file.write_text(str(round(seconds * 1000)))

    return take


def write_until_some_are_held_back(redis: Redis) -> list[float]:
    """Write one after the other; when each was acknowledged. At the end the server has some that it has not
    even handed to the kernel."""
    acknowledged = []
    for number in range(100_000):
        redis.rpush("numbers", number)
        acknowledged.append(time.monotonic())
        if number % 10 == 0 and redis.info("persistence")["aof_buffer_length"] > 0:
            return acknowledged
    pytest.fail("it never held anything back")


@pytest.mark.usefixtures("disk_syncs_in")
def test_kill_9_of_the_server_alone_loses_nothing_while_no_sync_is_under_way(store: EmbeddedStore) -> None:
    """What it acknowledged it has handed to the kernel."""
    with client(store.open()) as redis:
        for _ in range(5):
            with ThreadPoolExecutor() as pool:
                writing = [pool.submit(write_until_it_dies, redis) for _ in range(4)]
                until(lambda: redis.llen("numbers") > 1000)
                os.kill(server_pid(store.url), signal.SIGKILL)
                acknowledged = {name for each in writing for name in each.result()}
            store.open()
            assert acknowledged - set(redis.lrange("numbers", 0, -1)) == set()
            redis.delete("numbers")


def write_until_it_dies(redis: Redis) -> list[str]:
    acknowledged = []
    for number in range(1_000_000):
        name = f"{id(acknowledged)}-{number}"
        try:
            redis.rpush("numbers", name)
        except ConnectionError:
            break
        acknowledged.append(name)
    return acknowledged


def test_while_a_slow_disk_syncs_a_kill_loses_up_to_two_seconds_of_what_was_acknowledged(
    store: EmbeddedStore, disk_syncs_in: SyncsIn
) -> None:
    with client(store.open()) as redis:
        disk_syncs_in(SLOW)
        acknowledged = write_until_some_are_held_back(redis)
        kill(server_pid(store.url))
        killed = time.monotonic()
        disk_syncs_in(0)
        store.open()
        kept = redis.lrange("numbers", 0, -1)
    assert kept == [str(number) for number in range(len(kept))], "from the end alone"
    assert len(kept) < len(acknowledged)
    assert killed - acknowledged[len(kept)] < 3


def test_with_appendfsync_always_even_a_slow_disk_loses_nothing(
    store: EmbeddedStore, disk_syncs_in: SyncsIn
) -> None:
    with client(store.open()) as redis:
        redis.config_set("appendfsync", "always")
        disk_syncs_in(0.5)
        for number in range(3):
            redis.rpush("numbers", number)
        kill(server_pid(store.url))
        disk_syncs_in(0)
        store.open()
        assert redis.lrange("numbers", 0, -1) == ["0", "1", "2"]


@pytest.mark.parametrize("deployment", [10_000], indirect=True)
def test_a_sidecar_charges_the_calls_that_its_store_has_lost_again(
    disk_syncs_in: SyncsIn, deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    server = server_pid(deployment.store_url)
    with client(deployment.store_url) as redis:
        disk_syncs_in(SLOW)
        answered, held_back = 0, [0, 0, 0]
        while not 0 < held_back[-3] < held_back[-2] < held_back[-1]:  # two whole calls will be lost
            assert deployment.statuses(1) == [200]
            answered += 1
            held_back.append(redis.info("persistence")["aof_buffer_length"])
        kill(server)
        disk_syncs_in(0)
        # What SQL did not have yet is charged again, what it had is restored from there: either may be all.
        until(lambda: re.search(r"settlements .* are charged again|restored counter", caplog.text), within=30)
    until(deployment.books_are_clean)
    assert deployment.requests_counted() == answered
    assert "govmiddleware_lost_settlements_total 0.0" in deployment.metrics()
