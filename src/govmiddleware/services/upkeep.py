"""Background care for reservations: leases renewed, lost ones swept, unanswered writes sent again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import msgspec

from govmiddleware.core.call import Reservation
from govmiddleware.core.ports import Ledger
from govmiddleware.errors import HistoryUnavailable, StoreUnavailable
from govmiddleware.metrics import Metrics

logger = logging.getLogger("govmiddleware.upkeep")

_RESEND_SECONDS = 0.5
_SWEEP_BATCH = 100
_TURN = 0.9
"""How much of `sweep_seconds` a worker has the sweep to itself. Less than all of it: the same worker's next
round must not find its own turn still running."""

Write = Callable[[], Awaitable[object]]


class _Open(msgspec.Struct):
    """A reservation whose call runs, and when it was opened and last renewed."""

    reservation: Reservation
    opened: float
    renewed: float


class Upkeep:
    """The tasks of one process beside its requests.

    Args:
        lease_seconds: leases are renewed when a third of it has passed.
        sweep_seconds: how often every workspace is looked at for leases that ran out, by one of all the
            workers on the store.
    """

    def __init__(
        self, ledger: Ledger, metrics: Metrics, *, lease_seconds: float, sweep_seconds: float
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._gauge = metrics.open_reservations.labels()
        self._lease_seconds = lease_seconds
        self._turn_ms = max(1, round(_TURN * sweep_seconds * 1000))
        self._open: dict[str, _Open] = {}
        """The oldest first."""
        self._tasks: set[asyncio.Task[object]] = set()
        self._work: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (lease_seconds / 6, self._renew_leases),
            (sweep_seconds, self._sweep_all),
        ]
        self._loops: list[asyncio.Task[None]] = []
        self._is_running = False

    def also(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Further periodic work, from the next `start` on."""
        self._work.append((seconds, work))

    def start(self) -> None:
        """Start the loops on the running event loop."""
        self._is_running = True
        self._loops = [asyncio.create_task(self._every(*work)) for work in self._work]

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Let what is under way finish, at most `grace_seconds`, then end the loops."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_seconds)
        self._is_running = False  # a loop whose work swallows the cancellation looks here
        for task in [*self._loops, *self._tasks]:
            task.cancel()
        await asyncio.gather(*self._loops, *self._tasks, return_exceptions=True)
        self._loops = []
        self._metrics.share()

    def opened(self, reservation: Reservation) -> None:
        """Renew its lease until it is closed."""
        now = time.monotonic()
        self._open[reservation.id] = _Open(reservation, opened=now, renewed=now)
        self._gauge.value = len(self._open)

    def closed(self, reservation: Reservation) -> None:
        self._open.pop(reservation.id, None)
        self._gauge.value = len(self._open)

    def oldest_seconds(self) -> float:
        """For how long the oldest reservation has been open; 0 where none is."""
        oldest = next(iter(self._open.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest.opened

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`; a cancellation of the caller does not cancel it."""
        # `asyncio.shield` does the same in many more steps, which every request would take.
        task, waiter = self.spawn(work), asyncio.get_running_loop().create_future()
        task.add_done_callback(partial(_wake, waiter))
        await waiter
        task.result()

    def resend(self, write: Write, reservation: Reservation | None = None) -> None:
        """Send an idempotent write again until the store takes it. The lease of `reservation` is renewed
        so long, that no sweep comes before it."""
        self.spawn(self._resend(write, reservation))

    def spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Run something beside the requests; `stop` waits for it, its failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def sweep_soon(self, workspace: str, reservation_ids: Iterable[str]) -> None:
        """Sweep in the background what an admission saw expired."""
        for reservation_id in reservation_ids:
            self.spawn(self._sweep(workspace, reservation_id))

    async def _resend(self, write: Write, reservation: Reservation | None) -> None:
        deadline = time.monotonic() + 10 * self._lease_seconds
        self._metrics.unsent_writes.inc()
        try:
            while time.monotonic() < deadline:
                await asyncio.sleep(_RESEND_SECONDS)
                try:
                    await write()
                    return
                except StoreUnavailable as error:
                    logger.warning("the store did not take a settlement, sending it again: %s", error)
            logger.error("a settlement was given up; its reservation will be swept as reserved")
        finally:
            self._metrics.unsent_writes.inc(-1)
            if reservation is not None:
                self.closed(reservation)

    async def _renew_leases(self) -> None:
        now = time.monotonic()
        for each in list(self._open.values()):
            if each.renewed <= now - self._lease_seconds / 3:
                await self._renew(each.reservation, now)

    async def _renew(self, reservation: Reservation, now: float) -> None:
        """A failure is tried again at the next tick; it must not keep the other leases from renewal."""
        lease_ms = round(self._lease_seconds * 1000)
        try:
            alive = [
                await self._ledger.renew(workspace, reservation.id, lease_ms)
                for workspace in tuple(reservation.parts)
            ]
        except StoreUnavailable as error:
            logger.warning("the lease of %s could not be renewed: %s", reservation.id, error)
            return
        if (each := self._open.get(reservation.id)) is None:
            return  # settled meanwhile
        if any(alive):
            each.renewed = now
        else:
            logger.warning(
                "reservation %s was swept, or lost by the store, before its call ended", reservation.id
            )
            self.closed(reservation)

    async def _sweep_all(self) -> None:
        if not await self._ledger.take_sweep_turn(self._turn_ms):
            return
        for workspace in await self._ledger.workspaces():
            try:
                await self._sweep_workspace(workspace)
            except StoreUnavailable as error:
                logger.warning("workspace %s could not be swept: %s", workspace, error)

    async def _sweep_workspace(self, workspace: str) -> None:
        while expired := await self._ledger.expired(workspace, _SWEEP_BATCH):
            swept = [await self._sweep(workspace, reservation_id) for reservation_id in expired]
            if not any(swept):
                return  # another replica is at it, or none of them can be swept now

    async def _sweep(self, workspace: str, reservation_id: str) -> bool:
        if reservation_id in self._open:  # late, but alive: its renewal or settlement is on its way
            return False
        swept = await self._ledger.sweep(workspace, reservation_id)
        if swept:
            self._metrics.swept.inc()
            logger.warning("swept reservation %s of workspace %s as reserved", reservation_id, workspace)
        return swept

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.warning("background work failed: %s", error)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while self._is_running:
            await asyncio.sleep(seconds)
            try:
                await work()
            except StoreUnavailable as error:
                logger.warning("the store does not answer: %s", error)
            except HistoryUnavailable as error:
                logger.warning("the journal in SQL does not answer: %s", error)
            except Exception:  # a loop that ended would be missed too late
                logger.exception("periodic work failed, and is tried again")


def _wake(waiter: asyncio.Future[None], _: object) -> None:
    if not waiter.done():
        waiter.set_result(None)
