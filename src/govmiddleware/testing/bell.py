"""Wait in one event loop for what happens in another: the link between a test and a server's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class Bell:
    """Rung whenever something has changed; who waits for a condition then looks again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sleepers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def ring(self) -> None:
        """Wake everybody. From any thread."""
        with self._lock:
            sleepers = list(self._sleepers.items())
        for event, loop in sleepers:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                pass  # its loop has ended, and so has the wait

    async def until(self, condition: Callable[[], bool], *, within: float | None = 5.0) -> None:
        """Return once `condition()` is true. Raises TimeoutError after `within` seconds."""
        event = asyncio.Event()
        with self._lock:
            self._sleepers[event] = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within):
                while not condition():
                    await event.wait()
                    event.clear()
        finally:
            with self._lock:
                del self._sleepers[event]


class Gate:
    """Lets the chunks of a scripted answer through, one for each permit. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bell = Bell()
        self._permits = 0
        self._is_open = False

    def let(self, count: int = 1) -> None:
        """Let `count` more chunks pass."""
        with self._lock:
            self._permits += count
        self._bell.ring()

    def open(self) -> None:
        """Let everything pass from now on."""
        self._is_open = True
        self._bell.ring()

    async def passage(self) -> None:
        """Wait for a permit and take it."""
        await self._bell.until(self._take, within=None)

    def _take(self) -> bool:
        with self._lock:
            if self._is_open:
                return True
            if self._permits == 0:
                return False
            self._permits -= 1
            return True
