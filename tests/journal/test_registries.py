"""The copy of the registries, on each kind of database."""

from __future__ import annotations

import pytest

from govmiddleware.core.audit_log import Action
from govmiddleware.core.registries import Registry
from govmiddleware.errors import HistoryUnavailable
from govmiddleware.journal.audit_log import SqlAuditLog
from govmiddleware.journal.database import Database
from govmiddleware.journal.registries import SqlRegistryCopy
from tests.journal.test_audit_log import Heads

SET = Action("*", "cli", "limit.set", "limit:a\\b")
KEY = b"a key that the database never has"


@pytest.fixture
def log(database: Database) -> SqlAuditLog:
    return SqlAuditLog(database, lambda: KEY, Heads())


async def test_it_has_what_was_put_last_and_not_what_was_deleted(
    database: Database, log: SqlAuditLog
) -> None:
    copy = SqlRegistryCopy(database, log)
    for key, value in (("a\\b", b"1"), ("c", b"2"), ("a\\b", b'{"\xc3\xa9": 3}')):
        await copy.put((Registry.LIMIT, key, value), SET)
    await copy.put((Registry.API_TOKEN, "c", b"4"), SET)
    await copy.delete(Registry.LIMIT, "c", SET)
    await copy.delete(Registry.LIMIT, "never", SET)
    assert await copy.read(Registry.LIMIT) == {"a\\b": b'{"\xc3\xa9": 3}'}
    assert await copy.read(Registry.API_TOKEN) == {"c": b"4"}
    assert [entry.action async for entry in log.entries()] == [SET] * 6


async def test_it_is_completed_with_what_it_lacks(database: Database, log: SqlAuditLog) -> None:
    copy = SqlRegistryCopy(database, log)
    await copy.put((Registry.LIMIT, "new", b"1"), SET)
    assert not await copy.is_complete()
    for _ in range(2):
        await copy.complete([(Registry.LIMIT, "new", b"old"), (Registry.LIMIT, "old", b"2")])
    assert await copy.is_complete()
    assert await copy.read(Registry.LIMIT) == {"new": b"1", "old": b"2"}


async def test_what_the_audit_log_does_not_take_is_not_in_it(database: Database) -> None:
    def no_key() -> bytes:
        raise HistoryUnavailable("the key cannot be read")

    copy = SqlRegistryCopy(database, SqlAuditLog(database, no_key, Heads()))
    with pytest.raises(HistoryUnavailable):
        await copy.put((Registry.LIMIT, "a", b"1"), SET)
    assert await copy.read(Registry.LIMIT) == {}
