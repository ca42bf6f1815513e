"""How many connections an upstream may have at once, and the line of those who wait for one."""

from __future__ import annotations

import asyncio

from govmiddleware.errors import UpstreamBusy


class Connections:
    """`async with connections:` holds one of them for the block. Whoever finds none free waits in line, first
    come, first served; who is cancelled leaves the line.

    A request of HTTP/1.1 has its connection to itself, and a finished one leaves it to the next: so many
    requests at once need so many connections, pooled ones included.

    Args:
        most: how many there are; None: as many as are wanted.
        wait_seconds: how long to stand in line.

    Raises UpstreamBusy on entering, when the wait was in vain.
    """

    def __init__(self, most: int | None = None, *, wait_seconds: float = 0) -> None:
        self._free = asyncio.Semaphore(most) if most is not None else None
        self._wait_seconds = wait_seconds

    async def __aenter__(self) -> None:
        if self._free is None:
            return
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise UpstreamBusy("All connections to the upstream are in use; try again shortly.") from None

    async def __aexit__(self, *_: object) -> None:
        if self._free is not None:
            self._free.release()
