"""A store for code without an event loop: opened at its first use, by whichever thread comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable

from govmiddleware.ledger import sync_connection
from govmiddleware.ledger.adjustments import SyncRedisAdjustments
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.ledger.epochs import SyncEpochs


class SyncRedisStore:
    """Implements `budgets.synchronous.SyncStore`.

    Args:
        embedded: the embedded store, where it is the one; this is a user of its own.
        clock: a test's clock in Unix milliseconds.
        begin_epoch: `History.begin_epoch`, in a thread without an event loop.
    """

    def __init__(
        self,
        url: str,
        embedded: EmbeddedStore | None,
        clock: Callable[[], int] | None,
        begin_epoch: Callable[[str, str], str],
    ) -> None:
        self._url = url
        self._embedded = embedded
        self._clock = clock
        self._begin_epoch = begin_epoch
        self._turn = threading.Lock()
        self._redis: sync_connection.SyncClient | None = None
        self._adjustments: SyncRedisAdjustments | None = None

    def adjustments(self) -> SyncRedisAdjustments:
        """Raises StoreUnavailable and ConfigurationError where the embedded store does not come up."""
        with self._turn:
            if self._adjustments is None:
                if self._embedded is not None:
                    self._embedded.open()
                with sync_connection.store_call():  # a cluster's client asks for its nodes at once
                    self._redis = sync_connection.connect(self._url)
                self._adjustments = SyncRedisAdjustments(
                    self._redis, epochs=SyncEpochs(self._redis, self._begin_epoch), clock=self._clock
                )
            return self._adjustments

    def revive(self) -> None:
        """An embedded store that was killed has no supervisor but its users."""
        if self._embedded is not None:
            with self._turn:
                self._embedded.open()

    def close(self) -> None:
        """Leave it; the next use opens it again. Idempotent."""
        with self._turn:
            redis, self._redis, self._adjustments = self._redis, None, None
            if redis is not None:
                redis.close()
                if self._embedded is not None:
                    self._embedded.close()
