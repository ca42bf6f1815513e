"""Files that a crash, a disk or a person has damaged: named, explained, and never touched by us."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.embedded.users import client, kill, read, server_pid, servers, watchdogs, within, write

from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.embedded import EmbeddedStore, _find_binary

MANIFEST, BASE, INCR = "appendonly.aof.manifest", "appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof"


@pytest.fixture
def files(data_dir: Path) -> Path:
    """The directory of the append-only files of a store with a hundred keys and `kept`, which has ended."""
    with EmbeddedStore(data_dir) as url:
        with client(url) as redis:
            for number in range(100):
                redis.set(f"key{number}", "x" * 100)
        write(url, "before")
    within(5, lambda: not servers(data_dir))
    return data_dir / "valkey" / "appendonlydir"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def garbage_in_the_middle(files: Path) -> str:
    with (files / INCR).open("r+b") as aof:
        aof.seek(3000)
        aof.write(b"garbage!" * 8)
    return INCR


def a_damaged_base(files: Path) -> str:
    with (files / BASE).open("r+b") as base:
        base.write(b"garbage!")
    return BASE


def a_missing_base(files: Path) -> str:
    (files / BASE).unlink()
    return BASE


def a_missing_incr(files: Path) -> str:
    (files / INCR).unlink()
    return INCR


def a_missing_manifest(files: Path) -> str:
    (files / MANIFEST).unlink()
    return MANIFEST


def an_empty_manifest(files: Path) -> str:
    (files / MANIFEST).write_text("")
    return "manifest"


def nonsense_in_the_manifest(files: Path) -> str:
    (files / MANIFEST).write_text("nonsense\n")
    return "manifest"


@pytest.mark.parametrize(
    "harm",
    [
        garbage_in_the_middle,
        a_damaged_base,
        a_missing_base,
        a_missing_incr,
        a_missing_manifest,
        an_empty_manifest,
        nonsense_in_the_manifest,
    ],
)
def test_damaged_files_are_named_and_left_as_they_are(data_dir: Path, files: Path, harm) -> None:
    copy = shutil.copytree(files, data_dir / "copy")
    named = harm(files)
    damaged = contents(files)
    with pytest.raises(StoreUnavailable) as raised:
        EmbeddedStore(data_dir).open()
    message = str(raised.value)
    assert named in message
    for advice in (str(files), "copy", "valkey-check-aof", "redis_url"):
        assert advice in message
    assert contents(files) == damaged
    assert not watchdogs(data_dir)
    shutil.copytree(copy, files, dirs_exist_ok=True)
    with EmbeddedStore(data_dir) as url:
        assert read(url) == "before"


def test_a_manifest_may_be_written_anew(data_dir: Path, files: Path) -> None:
    (files / MANIFEST).write_text(f"file {BASE} seq 1 type b\nfile {INCR} seq 1 type i\n")
    with EmbeddedStore(data_dir) as url:
        assert read(url) == "before"


def test_the_advised_repair_brings_back_what_stands_before_the_damage(
    data_dir: Path, files: Path, tmp_path: Path
) -> None:
    garbage_in_the_middle(files)
    check = tmp_path / "valkey-check-aof"
    check.symlink_to(_find_binary())
    subprocess.run([check, "--fix", files / INCR], input="y\n", text=True, check=True, capture_output=True)
    with EmbeddedStore(data_dir) as url, client(url) as redis:
        assert 0 < redis.dbsize() < 100
        assert redis.exists("key0")


def test_a_tail_that_a_crash_cut_off_is_no_damage(data_dir: Path, files: Path) -> None:
    os.truncate(files / INCR, (files / INCR).stat().st_size - 5)
    with EmbeddedStore(data_dir) as url, client(url) as redis:
        assert redis.get("kept") == "before"
        assert redis.get("synced") is None, "the last that was written"


@pytest.mark.parametrize("cut", [1, 10, 40, 75])
def test_a_script_that_a_crash_cut_off_is_wholly_undone_and_what_follows_is_kept(
    data_dir: Path, files: Path, cut: int
) -> None:
    """Older ones left an open MULTI in the file, which swallowed what followed at the start after (valkey#4342)."""
    with EmbeddedStore(data_dir) as url, client(url) as redis:
        redis.eval("redis.call('SET', 'a', '1') redis.call('SET', 'b', '1')", 0)
    within(5, lambda: not servers(data_dir))
    os.truncate(files / INCR, (files / INCR).stat().st_size - cut)
    with EmbeddedStore(data_dir) as url, client(url) as redis:
        assert redis.exists("a", "b") == 0
        write(url, "after")
        kill(server_pid(url))
        with EmbeddedStore(data_dir):
            assert read(url) == "after"


def test_a_first_start_that_was_cut_off_is_no_damage(data_dir: Path, files: Path) -> None:
    """It writes the base before the manifest, and an incremental file after it."""
    (files / INCR).unlink()
    (files / MANIFEST).unlink()
    with EmbeddedStore(data_dir) as url:
        assert read(url) is None
