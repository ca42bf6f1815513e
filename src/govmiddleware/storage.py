"""Where everything is kept: the store and the journal's database that the settings name, and the ports on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from govmiddleware.core.audit_log import Head
from govmiddleware.errors import ConfigurationError, HistoryUnavailable, StoreUnavailable
from govmiddleware.journal.audit_log import SqlAuditLog
from govmiddleware.journal.database import Database
from govmiddleware.journal.history import SqlHistory
from govmiddleware.journal.synchronous import SyncEpochHistory
from govmiddleware.ledger.adjustments import RedisAdjustments
from govmiddleware.ledger.audit_head import RedisAuditHead
from govmiddleware.ledger.connection import connect
from govmiddleware.ledger.drain_turn import RedisDrainTurn
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.ledger.epochs import Epochs
from govmiddleware.ledger.health import StoreCheck, eviction_policy, examine
from govmiddleware.ledger.journal import RedisJournal
from govmiddleware.ledger.ledger import RedisLedger
from govmiddleware.ledger.sync_store import SyncRedisStore
from govmiddleware.services.audit_log import Chain, verify
from govmiddleware.services.signing_keys import SigningKeys
from govmiddleware.settings import Settings
from govmiddleware.settings_errors import without_password


class Storage:
    """Connects at the first use.

    Args:
        clock: a test's clock, in Unix milliseconds, in place of the store's.
        told_of_loss: called when the store has lost a workspace's counters.

    Raises ConfigurationError.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], int] | None, told_of_loss: Callable[[], None]
    ) -> None:
        self.embedded = EmbeddedStore(settings.data_dir) if settings.redis_url == "embedded" else None
        url = self.embedded.url if self.embedded else settings.redis_url
        try:
            self.redis = connect(url)
        except ValueError as error:
            shown = without_password(url)
            raise ConfigurationError("redis_url", shown, f"the URL of a store ({error})") from None
        self.database = Database(settings.journal_database)
        self.history = SqlHistory(self.database)
        secret = settings.audit_key.get_secret_value() if settings.audit_key else None
        self.signing_keys = SigningKeys(secret, settings.data_dir / "audit.key")
        self.audit_heads = RedisAuditHead(self.redis)
        self.audit_log = SqlAuditLog(self.database, lambda: self.signing_keys.audit_log, self.audit_heads)
        self.epochs = Epochs(self.redis, self.history.begin_epoch, told_of_loss)
        self.ledger = RedisLedger(
            self.redis, epochs=self.epochs, journal_max_records=settings.journal_max_records, clock=clock
        )
        self.journal = RedisJournal(self.redis, clock=clock)
        self.adjustments = RedisAdjustments(self.redis, epochs=self.epochs, clock=clock)
        self.drain_turn = RedisDrainTurn(self.redis)
        self.synchronous = SyncRedisStore(
            url,
            EmbeddedStore(settings.data_dir) if self.embedded else None,
            clock,
            SyncEpochHistory(settings.journal_database).begin_epoch,
        )

    async def open(self) -> None:
        """Start the embedded store, if it is the one. Raises StoreUnavailable and ConfigurationError."""
        _ = self.signing_keys.audit_log  # read now, so that what is wrong with the file shows at the start
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.open)

    async def revive(self) -> None:
        """An embedded store that was killed has no supervisor but its users."""
        try:
            await self.ledger.ping()
        except StoreUnavailable:
            await self.open()

    async def close(self) -> None:
        await self.redis.aclose()
        await self.database.close()
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.close)

    async def problems(self) -> list[str]:
        """What keeps the store from being trusted right now, in words. Raises StoreUnavailable."""
        await self.ledger.try_write()
        problems = []
        if await self.ledger.journal_is_full():
            problems.append("the journal is full: journal_max_records")
        if (policy := await eviction_policy(self.redis)) != "noeviction":
            problems.append(f"the store forgets budgets: set its maxmemory-policy {policy} to noeviction")
        return problems + await self.epochs.lost()

    async def verify_audit_log(self, *heads: Head) -> Chain:
        """Whether the audit log is whole and as it was written.

        Args:
            heads: what was its last entry once, beside the one that the store keeps.

        Raises HistoryUnavailable and StoreUnavailable.
        """
        kept = await self.audit_heads.read()
        known = heads if kept is None else (*heads, kept)
        return await verify(self.audit_log.entries(), self.signing_keys.audit_log, known)

    @property
    def journal_place(self) -> str:
        """Where the journal is kept, for people, and what is wrong with that where several hosts share the store."""
        place = self.database.url
        if self.database.is_sqlite and self.embedded is None:
            place += ", which is for one host: where several share the store, give journal_url a PostgreSQL"
        return place

    async def examine_store(self) -> list[StoreCheck]:
        """What `doctor` says of the store. Raises StoreUnavailable."""
        return await examine(self.redis)

    async def examine_journal(self) -> list[StoreCheck]:
        """What `doctor` says of the journal. Raises StoreUnavailable."""
        try:
            await self.history.ping()
            database = StoreCheck("database", True, self.journal_place)
        except HistoryUnavailable as error:
            database = StoreCheck("database", False, f"{self.journal_place}: {error}")
        report = await self.drain_turn.report()
        behind = "no worker runs that drains" if report is None else report.shown()
        return [database, StoreCheck("draining", report is None or not report.error, behind)]
