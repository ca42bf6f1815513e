"""What `kill -9` leaves behind: never an orphan, never a store without its data."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.embedded.users import (
    User,
    client,
    kill,
    processes,
    read,
    server_pid,
    servers,
    stays,
    sync,
    watchdogs,
    within,
    write,
)

from govmiddleware.ledger.embedded import EmbeddedStore


def test_opening_again_after_the_server_was_killed_brings_the_data_back(store: EmbeddedStore) -> None:
    url = store.open()
    write(url, "before")
    server = server_pid(url)
    kill(server)
    store.open()
    assert read(url) == "before"
    assert server_pid(url) != server


def test_a_server_that_dies_takes_its_watchdog_along(store: EmbeddedStore, data_dir: Path) -> None:
    server = server_pid(store.open())
    assert len(watchdogs(data_dir)) == 1
    kill(server)
    within(1, lambda: not watchdogs(data_dir))


def test_a_store_whose_watchdog_was_killed_gets_a_new_one_and_still_ends(
    store: EmbeddedStore, data_dir: Path, user: Callable[[], User]
) -> None:
    url = store.open()
    write(url, "before")
    kill(watchdogs(data_dir)[0])
    other = user()
    assert other.url() == url
    assert read(url) == "before"
    assert len(watchdogs(data_dir)) == 1
    server = server_pid(url)
    store.close()
    other.leave()
    within(5, lambda: server not in processes())


def test_a_killed_user_leaves_the_store_to_the_others(store: EmbeddedStore, user: Callable[[], User]) -> None:
    starter = user()
    url = starter.url()
    assert store.open() == url
    server = server_pid(url)
    starter.kill()
    assert stays(server, url)


def test_the_store_ends_after_all_its_users_were_killed(data_dir: Path, user: Callable[[], User]) -> None:
    users = [user(), user()]
    server = server_pid({each.url() for each in users}.pop())
    for each in users:
        each.kill()
    within(5, lambda: server not in processes() and not watchdogs(data_dir))


def test_ctrl_c_in_the_starters_terminal_leaves_the_store_to_the_others(
    store: EmbeddedStore, user: Callable[[], User]
) -> None:
    starter = user()
    url = starter.url()
    store.open()
    server = server_pid(url)
    starter.kill(signal.SIGINT)
    assert stays(server, url)


def test_when_all_were_killed_at_once_the_next_start_has_all_data(
    data_dir: Path, user: Callable[[], User]
) -> None:
    users = [user(), user()]
    url = {each.url() for each in users}.pop()
    doomed = [server_pid(url), *watchdogs(data_dir), *(each.process.pid for each in users)]
    with client(url) as redis:
        for number in range(100):
            redis.rpush("numbers", number)
    sync(url)
    for each in doomed:
        os.kill(each, signal.SIGKILL)
    with EmbeddedStore(data_dir) as url, client(url) as redis:
        assert redis.lrange("numbers", 0, -1) == [str(number) for number in range(100)]
        assert servers(data_dir) == [server_pid(url)]
        assert len(watchdogs(data_dir)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next user ends it")
def test_a_server_ends_although_its_watchdog_and_its_users_were_killed(
    data_dir: Path, user: Callable[[], User]
) -> None:
    last = user()
    server = server_pid(last.url())
    kill(watchdogs(data_dir)[0])
    last.kill()
    within(5, lambda: server not in processes())
    with EmbeddedStore(data_dir) as url:
        assert server_pid(url) != server
