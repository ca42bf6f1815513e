"""`serve --workers N`: keeps N worker processes serving on the same sockets.

    SIGTERM, SIGINT   drain all workers and end; a second one ends them at once
    SIGHUP            read the configuration again and replace the workers one by one
    SIGTTIN, SIGTTOU  one worker more, one less

uvicorn has a supervisor too. It is not used, because while it restarts workers it hears no signal, so that a
SIGTERM waits for every drain (noted in Kludex/uvicorn#3025); because it kills workers that start slowly as hung
(#2506); and because its workers live on, with the port, when it is killed itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing import get_context, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext

from govmiddleware import metrics
from govmiddleware.cli.server import COULD_NOT_START
from govmiddleware.cli.worker import Work, run
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings import Settings

logger = logging.getLogger("govmiddleware.supervisor")

_OURS = {signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU}
"""Signals that a terminal sends to the workers too, and that only the supervisor must answer."""

_FAREWELL_SECONDS = 15.0
"""How long after its drain a worker may take to settle and end."""

_START_SECONDS = 120.0
"""How long a worker may take to serve: an embedded store that reads much data takes a minute."""

_YOUNG_SECONDS = 30.0
"""A worker that ends before this age is replaced after a pause, twice as long each time."""

_LONGEST_PAUSE = 30.0

_BEAT_SECONDS = 5.0
_BEATS_MISSED = 6
"""A worker whose event loop did not run for so many beats hangs, and is killed."""

_LONGEST_SOCKET_PATH = 107
"""Bytes (unix(7)), of which the process that workers are forked from adds these to the temporary folder's."""
_ADDED = len("/pymp-12345678/listener-12345678")


def _context() -> ForkServerContext | SpawnContext:
    """Workers are forked, but where the temporary folder's path is too long for the socket that this takes."""
    path = os.fsencode(tempfile.gettempdir())
    fits = len(path) + _ADDED <= _LONGEST_SOCKET_PATH
    return get_context("forkserver") if fits else get_context("spawn")


_processes = _context()
_processes.set_forkserver_preload(["govmiddleware.cli.worker_base"])


class Worker:
    """A worker process, as its supervisor sees it. Made in a running event loop; raises OSError.

    Attributes:
        is_retired: whether it was told to end.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.is_retired = False
        self._missed = 0
        self._loop = loop = asyncio.get_running_loop()
        self._born = loop.time()
        self._serves: asyncio.Future[bool] = loop.create_future()
        self._ended: asyncio.Future[int] = loop.create_future()
        self._line, theirs = _processes.Pipe()
        self._process = _processes.Process(target=run, args=(work, theirs))
        with _blocked(_OURS):  # inherited
            self._process.start()
        theirs.close()
        loop.add_reader(self._line.fileno(), self._hear)
        loop.add_reader(self._process.sentinel, self._see_the_end)

    def __str__(self) -> str:
        return f"worker {self._process.pid}"

    @property
    def age(self) -> float:
        """Seconds."""
        return self._loop.time() - self._born

    async def serves(self) -> bool:
        """Wait until it serves; False where it ends before."""
        return await asyncio.shield(self._serves)

    def leave(self) -> None:
        """Have it say that it is not ready any more, and serve as before."""
        with suppress(OSError):  # it is gone already
            self._line.send(True)

    def hangs(self) -> bool:
        """To be asked once a beat. Beats are counted, not seconds: a machine that slept is no reason."""
        self._missed += 1
        return self._serves.done() and self._missed > _BEATS_MISSED

    async def ended(self) -> int:
        """Wait for its end: its exit code, or minus the number of the signal that killed it."""
        return await asyncio.shield(self._ended)

    def retire(self, patience: float) -> None:
        """Have it drain and end; it is killed where it did not after `patience` seconds."""
        if not self.is_retired:
            logger.info("%s drains", self)
            self.is_retired = True
            self._process.terminate()
            impatience = self._loop.call_later(patience, self._lose_patience)
            self._ended.add_done_callback(lambda _: impatience.cancel())

    def kill(self) -> None:
        self._process.kill()

    def _lose_patience(self) -> None:
        logger.error("%s does not end and is killed; its calls will be swept as reserved", self)
        self.kill()

    def _hear(self) -> None:
        try:
            self._line.recv()
        except (EOFError, OSError):
            self._loop.remove_reader(self._line.fileno())  # its end will be seen
            return
        self._missed = 0
        if not self._serves.done():
            self._serves.set_result(True)

    def _see_the_end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._loop.remove_reader(self._line.fileno())
        self._line.close()
        self._process.join()
        if not self._serves.done():
            self._serves.set_result(False)
        self._ended.set_result(self._process.exitcode or 0)


class Supervisor:
    """Starts, replaces and ends workers; kills those that hang.

    Args:
        sockets: bound, not listening; what is not accepted yet when a worker ends is there for the others.
        drain_seconds: how long answers may go on in a worker that is to end.
        drain_delay_seconds: how long all go on serving, though not ready any more, before they drain for good.
        reload: reads the configuration again; raises ConfigurationError.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: list[socket.socket],
        *,
        workers: int,
        drain_seconds: float,
        drain_delay_seconds: float,
        reload: Callable[[], Settings],
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._wanted = workers
        self._drain_seconds = drain_seconds
        self._drain_delay_seconds = drain_delay_seconds
        self._reload = reload
        self._workers: list[Worker] = []
        """All that have not ended, the oldest first."""
        self._outdated: list[Worker] = []
        """Those that are to be replaced."""
        self._pause = 0.0
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._attending: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve until a signal ends it; the exit code."""
        resource_tracker.ensure_running()  # here, for it unblocks SIGINT when it starts
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        loop.add_signal_handler(signal.SIGINT, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._replace_all)
        loop.add_signal_handler(signal.SIGTTIN, self._want, 1)
        loop.add_signal_handler(signal.SIGTTOU, self._want, -1)
        keeping = asyncio.create_task(self._keep())
        beating = asyncio.create_task(self._kill_what_hangs())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({keeping, beating, over}, return_when=asyncio.FIRST_COMPLETED)
            return keeping.result() if keeping.done() else 0
        finally:
            for task in (keeping, beating, over):
                task.cancel()
            await self._wait_to_be_left()
            for listener in self._sockets:
                listener.close()  # else it would take connections that nobody serves
            for worker in self._workers:
                self._retire(worker)
            await asyncio.gather(*self._attending)

    async def _wait_to_be_left(self) -> None:
        for worker in self._workers:
            worker.leave()
        if self._attending:  # until all were killed by a second signal, at most
            await asyncio.wait(self._attending, timeout=self._drain_delay_seconds)

    # What is wanted ------------------------------------------------------------------------------

    def _end(self) -> None:
        if self._over.is_set():
            for worker in self._workers:
                worker.kill()
        self._over.set()

    def _replace_all(self) -> None:
        try:
            self._settings = self._reload()
        except ConfigurationError as error:
            logger.error(
                "the configuration cannot be used, and the workers keep the one they have: %s",
                "; ".join([str(error), *getattr(error, "__notes__", ())]),
            )
            return
        logger.info("the configuration was read again; the workers are replaced one by one")
        self._outdated = list(self._workers)
        self._changed.set()

    def _want(self, more: int) -> None:
        self._wanted = max(1, self._wanted + more)
        logger.info("%d workers are wanted", self._wanted)
        self._changed.set()

    # What is done about it -----------------------------------------------------------------------

    async def _keep(self) -> int:
        """Bring about what is wanted, step by step. Returns where no worker serves and none can be started."""
        while True:
            self._changed.clear()
            active = [worker for worker in self._workers if not worker.is_retired]
            outdated = [worker for worker in active if worker in self._outdated]
            if len(active) < self._wanted:
                await asyncio.sleep(self._pause)
                settings = self._settings
                # The first comes alone: what keeps it from serving would keep the others, and is said once.
                missing = self._wanted - len(active) if active else 1
                started = await asyncio.gather(*(self._start() for _ in range(missing)))
                if not any(started):
                    if not active:
                        return COULD_NOT_START
                    self._take_back(settings)
            elif len(active) > self._wanted:
                self._retire(active[0])
            elif outdated and len(active) == len(self._workers):  # one by one: nobody drains
                await asyncio.sleep(self._pause)
                settings = self._settings
                if not await self._start():
                    self._take_back(settings)
            else:
                await self._changed.wait()

    def _take_back(self, settings: Settings) -> None:
        """After a start that failed: go on with the configuration before, unless this one serves in a worker
        already, or a newer one has come. Then it is tried again."""
        working = [worker for worker in self._workers if not worker.is_retired]
        served = any(worker.work.settings is settings for worker in working)
        if working and not served and settings is self._settings:
            logger.error("the new configuration does not serve; the workers keep the one they have")
            self._settings, self._outdated = working[0].work.settings, []

    async def _start(self) -> bool:
        """Start a worker and wait until it serves; False where it ends before."""
        names = {worker.work.name for worker in self._workers}
        work = Work(
            name=next(name for number in count(1) if (name := f"{os.getpid()}-{number}") not in names),
            settings=self._settings,
            sockets=self._sockets,
            drain_seconds=self._drain_seconds,
            beat_seconds=_BEAT_SECONDS,
            speaks=all(worker.work.settings is not self._settings for worker in self._workers),
        )
        try:
            worker = Worker(work)
        except OSError as error:
            logger.error("a worker cannot be started: %s", error)
            self._take_a_pause()
            return False
        self._workers.append(worker)
        attending = asyncio.create_task(self._attend(worker))
        self._attending.add(attending)
        attending.add_done_callback(self._attending.discard)
        try:
            async with asyncio.timeout(_START_SECONDS):
                serves = await worker.serves()
        except TimeoutError:
            logger.error("%s does not come up and is killed", worker)
            worker.kill()
            serves = await worker.serves()
        if serves:
            logger.info("%s serves", worker)
        else:
            await asyncio.shield(attending)  # only then it is counted no more
        return serves

    async def _attend(self, worker: Worker) -> None:
        """Wait for its end, and clear up after it."""
        code = await worker.ended()
        self._workers.remove(worker)
        if worker.is_retired:
            logger.info("%s ended", worker)
        else:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            logger.error("%s was lost: it ended %s", worker, how)
            if worker.age < _YOUNG_SECONDS:
                self._take_a_pause()
            else:
                self._pause = 0.0
        self._changed.set()
        metrics.forget(worker.work.name)  # before a new one takes the name

    async def _kill_what_hangs(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            for worker in self._workers:
                if worker.hangs():
                    logger.error("%s hangs and is killed: its event loop does not run", worker)
                    worker.kill()

    def _take_a_pause(self) -> None:
        self._pause = min(max(1.0, 2 * self._pause), _LONGEST_PAUSE)

    def _retire(self, worker: Worker) -> None:
        worker.retire(self._drain_seconds + _FAREWELL_SECONDS)


@contextmanager
def _blocked(signals: set[signal.Signals]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
