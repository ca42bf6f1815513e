"""Delivery of messages to a webhook, signed and tried again, as Standard Webhooks 1.0.0 has it."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from govmiddleware.core.ports import Headers, UpstreamClient
from govmiddleware.core.webhook_signature import signature
from govmiddleware.errors import UpstreamError
from govmiddleware.metrics import Metrics

logger = logging.getLogger("govmiddleware.webhook")

_MOST_WAITING = 1000
"""Messages; further ones are dropped while so many wait for a receiver that does not take them."""
_AT_ONCE = 4
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 300.0
_GIVE_UP_SECONDS = 3600.0
_GONE = 410
"""The one status that the specification takes for an end: the receiver wants no more."""


class WebhookDelivery:
    """Sends JSON messages to one receiver, each until it is taken, for an hour at most.

    A message has the same id at every attempt, which is its idempotency key: an answer that was lost makes the
    receiver see it twice. What waits is kept in memory; it does not outlive a crash of this process.

    Args:
        url: is never logged, as it may be a credential (Slack's are).
        key: what messages are signed with (`core.webhook_signature.read_secret`).
    """

    def __init__(self, client: UpstreamClient, url: str, key: bytes, metrics: Metrics) -> None:
        self._client = client
        self._url = url
        self._key = key
        self._metrics = metrics
        self._waiting: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._closing = asyncio.Event()

    def send(self, message_id: str, body: bytes) -> None:
        """Deliver it in the background. Needs a running event loop; never raises and never waits."""
        if len(self._waiting) >= _MOST_WAITING:
            self._ended(message_id, "dropped", f"{_MOST_WAITING} others wait already")
            return
        task = asyncio.create_task(self._deliver(message_id, body))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Try what is left once more, at most `grace_seconds`, and disconnect."""
        self._closing.set()
        if self._waiting:
            await asyncio.wait(set(self._waiting), timeout=grace_seconds)
        left = set(self._waiting)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._client.close()
        self._closing.clear()

    async def _deliver(self, message_id: str, body: bytes) -> None:
        give_up, pause = time.monotonic() + _GIVE_UP_SECONDS, _FIRST_PAUSE_SECONDS
        try:
            while True:
                is_last = self._closing.is_set() or time.monotonic() >= give_up
                async with self._turns:
                    status, problem = await self._attempt(message_id, body)
                if not problem:
                    self._metrics.webhook_messages.labels("delivered").inc()
                    return
                if is_last or status == _GONE:
                    self._ended(message_id, "failed", problem)
                    return
                logger.warning("webhook message %s was not taken, trying again: %s", message_id, problem)
                await self._rest(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        except asyncio.CancelledError:
            self._ended(message_id, "failed", "there was no time left")
            raise

    async def _attempt(self, message_id: str, body: bytes) -> tuple[int | None, str]:
        """The status, where there is one, and what was wrong, else nothing."""
        timestamp = int(time.time())
        headers: Headers = [
            (b"content-type", b"application/json"),
            (b"user-agent", b"govmiddleware"),
            (b"webhook-id", message_id.encode()),
            (b"webhook-timestamp", b"%d" % timestamp),
            (b"webhook-signature", signature(self._key, message_id, timestamp, body).encode()),
        ]
        try:
            async with self._client.request("POST", self._url, headers, body) as answer:
                return answer.status, "" if 200 <= answer.status < 300 else f"status {answer.status}"
        except UpstreamError as error:
            return None, str(error)

    async def _rest(self, seconds: float) -> None:
        """Until it is time to try again, or for the last time."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _ended(self, message_id: str, outcome: str, problem: str) -> None:
        self._metrics.webhook_messages.labels(outcome).inc()
        logger.error("webhook message %s was not delivered (%s): %s", message_id, outcome, problem)
