"""The audit log, verified: whatever is done to the table shows, and is named."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from govmiddleware.core.audit_log import Action, Entry, Head
from govmiddleware.journal.audit_log import SqlAuditLog
from govmiddleware.journal.database import Database
from govmiddleware.ledger.audit_head import RedisAuditHead
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.keys import AUDIT_HEAD
from govmiddleware.services.audit_log import Chain, verify

KEY = b"a key that the database never has"
ENTRIES = 6


class NoHeads:
    """A store that keeps no head."""

    async def read(self) -> Head | None:
        return None

    async def replace(self, kept: Head | None, head: Head) -> bool:
        return True


def action(number: int) -> Action:
    subject = f"usage-budget:month:user-{number}"
    return Action("acme", f"api_token:ops-{number}", "override.approved", subject, {"amount": number})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Entry]]:
    """A database file with some entries, and these."""
    file = tmp_path_factory.mktemp("written") / "journal.sqlite3"

    async def write() -> list[Entry]:
        database = Database(f"sqlite:///{file}")
        log = SqlAuditLog(database, lambda: KEY, NoHeads())
        entries = [await log.append(action(number)) for number in range(ENTRIES)]
        await database.close()
        return entries

    return file, asyncio.run(write())


def found(file: Path, key: bytes = KEY, heads: Sequence[Head] = ()) -> Chain:
    async def check() -> Chain:
        database = Database(f"sqlite:///{file}")
        try:
            return await verify(SqlAuditLog(database, lambda: key, NoHeads()).entries(), key, heads)
        finally:
            await database.close()

    return asyncio.run(check())


def after(written: tuple[Path, list[Entry]], tmp_path: Path, *statements: str) -> Path:
    """A copy of the database to which something was done."""
    file = tmp_path / "changed.sqlite3"
    shutil.copyfile(written[0], file)
    with sqlite3.connect(file) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return file


def test_a_log_that_nobody_touched_is_whole(written) -> None:
    file, entries = written
    assert found(file, heads=[entry.head for entry in entries]) == Chain(ENTRIES)


COLUMNS = ["sequence", "at_ms", "workspace", "actor", "action", "subject", "details", "mac"]


@given(
    number=st.integers(1, ENTRIES),
    column=st.sampled_from(COLUMNS),
    value=st.one_of(
        st.integers(-(2**63), 2**63 - 1),
        st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        st.binary(),
    ),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_to_any_row_is_found_and_named(written, tmp_path, number, column, value) -> None:
    file = after(written, tmp_path)
    with sqlite3.connect(file) as connection:
        row = "FROM gov_audit_entry WHERE sequence = ?"
        before = connection.execute(f"SELECT {column} {row}", [number]).fetchone()
        try:
            connection.execute(f"UPDATE gov_audit_entry SET {column} = ? WHERE sequence = ?", [value, number])
        except sqlite3.IntegrityError:
            return  # the number of another entry
        kept = connection.execute(
            f"SELECT {column} FROM gov_audit_entry WHERE rowid = ?", [number]
        ).fetchone()
    connection.close()
    chain = found(file, heads=[written[1][-1].head])
    if kept == before:
        assert chain.ok
    elif column == "sequence":
        assert chain.first_bad == (min(number, kept[0]) if isinstance(kept[0], int) else number)
    else:
        assert chain.first_bad == number
        assert str(number) in str(chain.problem)


TAMPERED = {
    "details that read the same": (
        ["UPDATE gov_audit_entry SET details = replace(details, ':', ': ') WHERE sequence = 3"],
        3,
        "changed",
    ),
    "an entry removed": (["DELETE FROM gov_audit_entry WHERE sequence = 3"], 3, "missing"),
    "the first removed": (["DELETE FROM gov_audit_entry WHERE sequence = 1"], 1, "missing"),
    "one removed, and the later ones moved up": (
        [
            "DELETE FROM gov_audit_entry WHERE sequence = 3",
            "UPDATE gov_audit_entry SET sequence = -sequence WHERE sequence > 3",
            "UPDATE gov_audit_entry SET sequence = -sequence - 1 WHERE sequence < 0",
        ],
        3,
        "changed, inserted or moved",
    ),
    "two swapped": (
        [
            "UPDATE gov_audit_entry SET sequence = -2 WHERE sequence = 2",
            "UPDATE gov_audit_entry SET sequence = 2 WHERE sequence = 4",
            "UPDATE gov_audit_entry SET sequence = 4 WHERE sequence = -2",
        ],
        2,
        "changed, inserted or moved",
    ),
    "one inserted, and the later ones moved down": (
        [
            "UPDATE gov_audit_entry SET sequence = -sequence WHERE sequence >= 3",
            "UPDATE gov_audit_entry SET sequence = 1 - sequence WHERE sequence < 0",
            "INSERT INTO gov_audit_entry SELECT 3, at_ms, workspace, actor, action, subject, details, mac"
            " FROM gov_audit_entry WHERE sequence = 2",
        ],
        3,
        "changed, inserted or moved",
    ),
    "one inserted before the first": (
        [
            "INSERT INTO gov_audit_entry SELECT 0, at_ms, workspace, actor, action, subject, details, mac"
            " FROM gov_audit_entry WHERE sequence = 1"
        ],
        0,
        "inserted",
    ),
    "the tail cut": (
        ["DELETE FROM gov_audit_entry WHERE sequence > 4"],
        5,
        "missing, for the log once reached to 6:",
    ),
    "all gone": (["DELETE FROM gov_audit_entry"], 1, "missing, for the log once reached to 6:"),
}


@pytest.mark.parametrize("done", TAMPERED)
def test_what_was_done_to_the_log_is_named(written, tmp_path, done) -> None:
    statements, first_bad, words = TAMPERED[done]
    chain = found(after(written, tmp_path, *statements), heads=[written[1][-1].head])
    assert (chain.ok, chain.first_bad) == (False, first_bad)
    assert words in str(chain.problem)
    assert f"entry {first_bad}" in str(chain.problem)


def test_another_key_is_told_from_changes(written) -> None:
    chain = found(written[0], b"another key")
    assert chain.first_bad == 1
    assert "none of the 6 entries fits the key" in str(chain.problem)


def test_a_head_of_another_log_is_no_head_of_this_one(written) -> None:
    chain = found(written[0], heads=[Head(4, "0" * 64)])
    assert chain.first_bad == 4
    assert "another one than was the last" in str(chain.problem)


# The head that the store keeps ---------------------------------------------------------------------


@pytest.fixture
async def heads(gov_store: str) -> AsyncIterator[RedisAuditHead]:
    redis = connect(gov_store)
    yield RedisAuditHead(redis)
    await redis.aclose()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'journal.sqlite3'}")
    yield database
    await database.close()


async def test_the_store_keeps_the_last_entry_of_all_who_append(heads, database) -> None:
    logs = [SqlAuditLog(database, lambda: KEY, heads) for _ in range(4)]
    entries = await asyncio.gather(*(logs[number % 4].append(action(number)) for number in range(20)))
    assert await heads.read() == max((entry.head for entry in entries), key=lambda head: head.sequence)


async def test_a_log_that_was_cut_does_not_pass_for_whole_when_it_has_grown_again(
    heads, database, tmp_path, caplog
) -> None:
    log = SqlAuditLog(database, lambda: KEY, heads)
    third = [await log.append(action(number)) for number in range(3)][-1]
    with sqlite3.connect(tmp_path / "journal.sqlite3") as connection:
        connection.execute("DELETE FROM gov_audit_entry WHERE sequence >= 2")
    connection.close()
    for number in range(3, 8):
        await log.append(action(number))
    assert await heads.read() == third.head
    assert f"has lost or changed entry {third.head}" in caplog.text
    chain = await verify(log.entries(), KEY, [third.head])
    assert chain.first_bad == 3, "the chain itself is whole"
    assert (await verify(log.entries(), KEY, [])).ok


async def test_a_head_in_the_store_that_nobody_wrote_is_found(heads, database) -> None:
    log = SqlAuditLog(database, lambda: KEY, heads)
    await log.append(action(0))
    await heads._redis.set(AUDIT_HEAD, "99999999999999999999999:ff")
    await log.append(action(1))
    kept = await heads.read()
    assert kept is not None
    assert not (await verify(log.entries(), KEY, [kept])).ok


async def test_entries_are_appended_while_the_store_is_down(database, caplog) -> None:
    redis = connect("redis://127.0.0.1:1")
    log = SqlAuditLog(database, lambda: KEY, RedisAuditHead(redis))
    await log.append(action(0))
    await redis.aclose()
    assert "the store did not get to know of audit log entry 1" in caplog.text
    assert [entry.sequence async for entry in log.entries()] == [1]
