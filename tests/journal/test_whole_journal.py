"""The whole journal: SQL's records, then the stream's, none twice."""

from __future__ import annotations

from redis.asyncio import Redis

from govmiddleware.journal.history import SqlHistory
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.services import records
from govmiddleware.services.history import all_workspaces
from govmiddleware.services.records import summary_record
from tests.journal.whole import whole_journal


async def test_records_are_read_from_both_and_none_twice(gov_store: str, history: SqlHistory) -> None:
    async with Redis.from_url(gov_store) as redis:
        journal = RedisJournal(redis)

        async def whole() -> list[int]:
            entries = whole_journal(history, journal, "acme")
            return [records.decode(entry.record).refused async for entry in entries]

        assert await whole() == []
        for number in range(1, 6):
            await journal.append("acme", records.encode(summary_record("acme", number)))
        entries = [entry async for entry in journal.entries("acme")]
        assert await whole() == [1, 2, 3, 4, 5]
        await history.append("acme", entries[:3])
        assert await whole() == [1, 2, 3, 4, 5]
        await redis.xtrim("gov:{acme}:journal", minid=entries[2].record_id, approximate=False)
        assert await whole() == [1, 2, 3, 4, 5]
        await history.append("acme", entries[3:])
        await redis.delete("gov:{acme}:journal")
        assert await whole() == [1, 2, 3, 4, 5]


async def test_a_workspace_that_only_one_of_them_knows_is_listed(gov_store: str, history: SqlHistory) -> None:
    async with Redis.from_url(gov_store) as redis:
        await redis.sadd("gov:workspaces", "acme", "new")
        await history.begin_epoch("acme", "e")
        await history.begin_epoch("lost", "e")
        assert await all_workspaces(history, RedisJournal(redis)) == ["acme", "lost", "new"]
