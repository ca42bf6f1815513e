"""Disks that are full, read-only or gone: clear errors, nothing lost, and on it goes when they are back."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis, ResponseError
from tests.embedded.users import client, kill, read, server_pid, servers, sync, within, write

from govmiddleware.errors import ConfigurationError, StoreUnavailable
from govmiddleware.ledger.embedded import EmbeddedStore

Mount = Callable[..., None]

needs_prlimit = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="needs prlimit(2), which is Linux'"
)


@pytest.fixture
def mount(data_dir: Path) -> Iterator[Mount]:
    """Mounts something at the data directory; skips where this user may not."""

    def mount(*arguments: str) -> None:
        command = ["mount", *arguments, str(data_dir)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs a user who may mount")

    yield mount
    with suppress(OSError):
        while (
            subprocess.run(["umount", "-l", str(data_dir)], capture_output=True, check=False).returncode == 0
        ):
            pass


@pytest.fixture
def small_disk(mount: Mount, data_dir: Path) -> Path:
    mount("-t", "tmpfs", "-o", "size=2m", "none")
    return data_dir


def fill(disk: Path, *, leaving: int = 0) -> None:
    with (disk / "filling").open("ab", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - leaving)


def append_until_refused(redis: Redis) -> tuple[int, str]:
    """How many were acknowledged, and the error."""
    for number in range(10_000):
        try:
            redis.rpush("numbers", f"{number:01000}")
        except ResponseError as error:
            return number, str(error)
    pytest.fail("it was never refused")


# Full ---------------------------------------------------------------------------------------------


def test_on_a_full_disk_writes_are_refused_and_nothing_acknowledged_is_lost(
    store: EmbeddedStore, small_disk: Path
) -> None:
    with client(store.open()) as redis:
        fill(small_disk, leaving=16384)
        acknowledged, error = append_until_refused(redis)
        assert "No space left on device" in error
        (small_disk / "filling").unlink()
        within(5, lambda: redis.info("persistence")["aof_last_write_status"] == "ok")
        redis.rpush("numbers", "more")
        sync(store.url)
        kill(server_pid(store.url))
        store.open()
        assert redis.llen("numbers") == acknowledged + 1


@needs_prlimit
def test_a_server_that_may_not_write_goes_on_by_itself_when_it_may_again(store: EmbeddedStore) -> None:
    """As above, without the right to mount."""
    with client(store.open()) as redis:
        resource.prlimit(server_pid(store.url), resource.RLIMIT_FSIZE, (16384, resource.RLIM_INFINITY))
        acknowledged, error = append_until_refused(redis)
        assert "Errors writing to the AOF file" in error
        resource.prlimit(
            server_pid(store.url), resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        within(5, lambda: redis.info("persistence")["aof_last_write_status"] == "ok")
        redis.rpush("numbers", "more")
        sync(store.url)
        kill(server_pid(store.url))
        store.open()
        assert redis.llen("numbers") == acknowledged + 1


@pytest.mark.parametrize("leaving", [0, 4096, 8192, 12288])
def test_a_start_on_a_full_disk_says_so_and_works_when_there_is_room(
    store: EmbeddedStore, small_disk: Path, leaving: int
) -> None:
    fill(small_disk, leaving=leaving)
    with pytest.raises((StoreUnavailable, ConfigurationError), match="No space left on device"):
        store.open()
    (small_disk / "filling").unlink()
    write(store.open(), "now")


# Read-only ----------------------------------------------------------------------------------------


def test_a_new_store_on_a_read_only_disk_names_the_data_dir(
    store: EmbeddedStore, data_dir: Path, mount: Mount
) -> None:
    mount("-t", "tmpfs", "-o", "ro", "none")
    with pytest.raises(ConfigurationError, match=r"data_dir = .*Read-only file system"):
        store.open()


def test_an_old_store_on_a_read_only_disk_is_not_started(
    store: EmbeddedStore, data_dir: Path, small_disk: Path, mount: Mount
) -> None:
    write(store.open(), "before")
    store.close()
    within(5, lambda: not servers(data_dir))
    mount("-o", "remount,ro")
    with pytest.raises(StoreUnavailable, match=f"{data_dir}.*Read-only file system"):
        store.open()
    mount("-o", "remount,rw")
    assert read(store.open()) == "before"


# Gone ---------------------------------------------------------------------------------------------


def test_a_store_whose_directory_was_deleted_ends_and_is_not_begun_anew(
    store: EmbeddedStore, data_dir: Path
) -> None:
    server = server_pid(store.open())
    subprocess.run(["rm", "-r", str(data_dir / "valkey")], check=True)
    within(5, lambda: server not in servers(data_dir))
    with pytest.raises(StoreUnavailable, match=r"deleted or moved away.*restart every process"):
        store.open()
    assert list(data_dir.iterdir()) == []


def test_a_store_whose_directory_was_moved_away_goes_on_when_it_is_back(
    store: EmbeddedStore, data_dir: Path
) -> None:
    server = server_pid(store.open())
    with client(store.url) as redis:
        redis.set("kept", "before")
    (data_dir / "valkey").rename(data_dir / "elsewhere")
    within(5, lambda: server not in servers(data_dir))
    with pytest.raises(StoreUnavailable, match="moved away"):
        store.open()
    (data_dir / "elsewhere").rename(data_dir / "valkey")
    assert read(store.open()) == "before"


def test_a_store_whose_disk_was_unmounted_goes_on_when_it_is_back(
    store: EmbeddedStore, data_dir: Path, mount: Mount, tmp_path_factory: pytest.TempPathFactory
) -> None:
    disk = tmp_path_factory.mktemp("disk")
    mount("--bind", str(disk))
    write(store.open(), "before")
    subprocess.run(["umount", "-l", str(data_dir)], check=True)
    with pytest.raises(StoreUnavailable, match="moved away"):
        store.open()
    assert list(data_dir.iterdir()) == []
    mount("--bind", str(disk))
    assert read(store.open()) == "before"
