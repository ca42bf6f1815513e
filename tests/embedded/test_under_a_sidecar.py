"""The embedded store under a running sidecar: what callers, operators and the books see of its troubles."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time

import httpx
import pytest
from redis import Redis
from tests.embedded.deployment import Deployment
from tests.embedded.users import kill, server_pid, servers, sync, watchdogs, within
from tests.sidecar.waiting import until

from govmiddleware.testing import Script, ScriptedProvider
from govmiddleware.testing.bell import Gate

pytestmark = pytest.mark.impatient

needs_prlimit = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="needs prlimit(2), which is Linux'"
)


def fill_disk(deployment: Deployment) -> None:
    """As the store's server sees it."""
    server = server_pid(deployment.store_url)
    resource.prlimit(server, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    with Redis.from_url(deployment.store_url) as redis:
        redis.set("the last", "straw")  # acknowledged still, and written when there is room


def make_room(deployment: Deployment) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(server_pid(deployment.store_url), resource.RLIMIT_FSIZE, unlimited)


def test_a_killed_store_comes_back_with_its_books(deployment: Deployment) -> None:
    assert deployment.statuses(3) == [200, 200, 200]
    sync(deployment.store_url)
    os.kill(server_pid(deployment.store_url), signal.SIGKILL)
    assert deployment.call().status_code == 503
    until(lambda: deployment.call().status_code == 200)
    assert deployment.statuses(2) == [200, 429]
    assert deployment.books_are_clean()


def test_a_store_killed_with_its_watchdog_comes_back_with_its_books(deployment: Deployment) -> None:
    assert deployment.statuses(3) == [200, 200, 200]
    sync(deployment.store_url)
    for process in [*watchdogs(deployment.data_dir), *servers(deployment.data_dir)]:
        os.kill(process, signal.SIGKILL)
    until(lambda: deployment.call().status_code == 200)
    assert deployment.statuses(2) == [200, 429]
    assert len(servers(deployment.data_dir)) == len(watchdogs(deployment.data_dir)) == 1


def test_a_store_whose_watchdog_alone_was_killed_gets_both_anew(deployment: Deployment) -> None:
    assert deployment.statuses(3) == [200, 200, 200]
    os.kill(watchdogs(deployment.data_dir)[0], signal.SIGKILL)
    within(10, lambda: len(watchdogs(deployment.data_dir)) == 1)
    until(lambda: deployment.call().status_code == 200)
    assert deployment.statuses(2) == [200, 429]


def test_a_store_that_hangs_for_three_seconds_refuses_calls_at_once_and_goes_on_with_its_books(
    deployment: Deployment, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    assert deployment.statuses(2) == [200, 200]
    server = server_pid(deployment.store_url)
    os.kill(server, signal.SIGSTOP)
    try:
        hung = time.monotonic()
        while time.monotonic() < hung + 3:
            begun = time.monotonic()
            assert deployment.call().status_code == 503
            assert time.monotonic() < begun + 1
        assert deployment.readiness()[0] == 503
    finally:
        os.kill(server, signal.SIGCONT)
    until(lambda: deployment.call().status_code == 200)
    assert server_pid(deployment.store_url) == server
    # What was refused meanwhile holds nothing, once the cancellations have been taken.
    with Redis.from_url(deployment.store_url) as redis:
        within(5, lambda: redis.zcard("gov:{acme}:open") == 0)
    assert deployment.statuses(3) == [200, 200, 429]
    assert deployment.books_are_clean()


@needs_prlimit
def test_on_a_full_disk_calls_are_refused_and_the_cause_is_named_until_there_is_room(
    deployment: Deployment,
) -> None:
    fill_disk(deployment)
    within(5, lambda: deployment.readiness()[0] == 503)  # although this process has written nothing yet
    assert "Errors writing to the AOF file" in deployment.readiness()[1]
    refused = deployment.call()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    code, said = deployment.doctor()
    assert code == 1
    assert "Errors writing to the AOF file" in said
    make_room(deployment)
    until(lambda: deployment.call().status_code == 200)
    assert deployment.readiness()[0] == 200
    assert deployment.statuses(5) == [200, 200, 200, 200, 429]
    sync(deployment.store_url)
    kill(server_pid(deployment.store_url))
    until(lambda: deployment.call().status_code == 429)
    assert deployment.books_are_clean()


@needs_prlimit
def test_a_call_that_ends_while_the_disk_is_full_is_settled_when_there_is_room(
    deployment: Deployment, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    gate = Gate()
    gov_provider[0].script = Script(gate=gate)
    with httpx.stream("POST", **deployment.request(stream=True)) as answer:
        chunks = answer.iter_bytes()
        gate.let(2)
        received = next(chunks)
        fill_disk(deployment)
        gate.open()
        received += b"".join(chunks)
    assert received.endswith(b"data: [DONE]\n\n")
    assert "govmiddleware_unsent_writes 1.0" in deployment.metrics()
    make_room(deployment)
    until(lambda: "govmiddleware_unsent_writes 0.0" in deployment.metrics())
    assert 'govmiddleware_settlements_total{settlement="exact"} 1.0' in deployment.metrics()
    assert deployment.books_are_clean()


def test_a_deployment_whose_data_dir_was_deleted_refuses_calls_and_says_why(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    assert deployment.statuses(1) == [200]
    shutil.rmtree(deployment.data_dir / "valkey")
    until(lambda: "was deleted or moved away while it was used" in caplog.text)
    assert deployment.statuses(2) == [503, 503]
    assert deployment.readiness()[0] == 503
    assert not (deployment.data_dir / "valkey").exists()
