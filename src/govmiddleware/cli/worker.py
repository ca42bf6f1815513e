"""One worker of `serve --workers`: a process of its own, on the sockets that all of them share."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from multiprocessing.connection import Connection

import msgspec

from govmiddleware import metrics
from govmiddleware.app import Governance
from govmiddleware.cli.common import log_to_stderr
from govmiddleware.cli.server import Server, say_where
from govmiddleware.settings import Settings
from govmiddleware.sidecar import Sidecar

logger = logging.getLogger("govmiddleware.worker")


class Work(msgspec.Struct, frozen=True):
    """What a worker is started with; it goes through a pipe, as secrets must be in no argument list.

    Attributes:
        name: of its metrics; no two workers have the same at the same time.
        speaks: whether it says what is to be said once, and not by every worker.
        beat_seconds: how often it tells that its event loop runs.
        drain_seconds: how long answers may go on after SIGTERM.
    """

    name: str
    settings: Settings
    sockets: list[socket.socket]
    drain_seconds: float
    beat_seconds: float
    speaks: bool


def run(work: Work, supervisor: Connection) -> None:
    """The life of a worker. From when it serves, it sends its beat through `supervisor`, and hears when all are
    about to end; it ends when that closes, so that no worker outlives a supervisor that was killed and holds its
    port."""
    log_to_stderr(work.settings, with_process=True)
    metrics.share_as(work.name)

    def started() -> None:
        if work.speaks:
            say_where(work.sockets)
        os.set_blocking(supervisor.fileno(), False)  # no worker waits for a supervisor that is stopped
        asyncio.get_running_loop().add_reader(supervisor.fileno(), hear)
        beat()

    def beat() -> None:
        with suppress(OSError):
            supervisor.send(True)
        asyncio.get_running_loop().call_later(work.beat_seconds, beat)

    def hear() -> None:
        try:
            supervisor.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(supervisor.fileno())
            logger.error("the supervisor is gone")
            server.should_exit = True
        else:
            sidecar.leave()

    sidecar = Sidecar(Governance(work.settings), speaks=work.speaks)
    server = Server(sidecar, drain_seconds=work.drain_seconds, started=started)
    server.run(work.sockets)
