"""The HTTP server: uvicorn with our settings, and with an end that no client notices."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from govmiddleware.cli.garbage import collect_while_serving

logger = logging.getLogger("govmiddleware.server")

COULD_NOT_START = 3
"""Exit code; also uvicorn's own where the app's lifespan fails."""

_KEEP_ALIVE_SECONDS = 75
"""Longer than clients and load balancers keep idle connections (60 s is common), so that it is they who close
them: what is sent on a connection that is just being closed is lost."""

_QUIET_SECONDS = 2.0
"""An end comes no sooner than this after the last request; a client that reuses its connections within it
never meets a closed one."""

_FAREWELL_SECONDS = 5.0
"""For calls that were cut to settle."""

_TICK = 0.1


class Server(uvicorn.Server):
    """Serves `app` until SIGTERM or SIGINT, then drains.

    uvicorn closes idle connections at once when it ends, and a request that is on its way there is lost
    (Kludex/uvicorn#2757). This one says that it leaves, serves as before until load balancers know, stops
    accepting, lets running answers finish, and goes on answering on open connections, each answer with
    `connection: close`, until it was quiet for a while.

    Args:
        drain_seconds: how long answers may go on; then they are cut, and settled.
        started: called in the event loop once requests are served.
        leaving: called in the event loop when a signal came.
        drain_delay_seconds: how long new connections are taken after that.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        drain_seconds: float,
        started: Callable[[], None],
        leaving: Callable[[], None] = lambda: None,
        drain_delay_seconds: float = 0,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_http_protocol(),
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,  # trusted_proxies decides whose word counts
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=1,  # for what is left when we have drained
            )
        )
        self._drain_seconds = drain_seconds
        self._drain_delay_seconds = drain_delay_seconds
        self._say_started = started
        self._say_leaving = leaving

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's raises the signal once more when all is done, and the process would die of it.
        numbers = [signal.SIGTERM, signal.SIGINT]
        # SIGHUP ends a single process, for nobody could take over, unless it was started with nohup.
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            collect_while_serving()
            self._say_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._say_leaving()
        await self._wait_to_be_left()
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [(b"connection", b"close")]  # of every answer to come
        with _without_cancellations():
            await self._drain()
            await super().shutdown(sockets)

    async def _wait_to_be_left(self) -> None:
        now = asyncio.get_running_loop().time
        end = now() + self._drain_delay_seconds
        # A moment in any case: a connection that the kernel has taken, and we have not yet, would be reset.
        await asyncio.sleep(_TICK)
        while now() < end and not self.force_exit:
            await asyncio.sleep(_TICK)

    async def _drain(self) -> None:
        state = self.server_state
        if state.connections:
            logger.info(
                "Waiting for %d connections, %g s at most", len(state.connections), self._drain_seconds
            )
        now = asyncio.get_running_loop().time
        deadline = now() + self._drain_seconds
        answered, quiet_since = state.total_requests, now()
        while state.connections and now() < deadline and not self.force_exit:
            await asyncio.sleep(_TICK)
            if state.tasks or state.total_requests != answered:
                answered, quiet_since = state.total_requests, now()
            elif now() - quiet_since >= _QUIET_SECONDS:
                return
        if running := list(state.tasks):
            logger.warning("%d answers are cut", len(running))
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=_FAREWELL_SECONDS)


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to the addresses of `host`, not listening yet; those of a kind that this machine has not
    got, as `localhost` may have one of IPv6, are left out. Raises OSError."""
    bound: list[socket.socket] = []
    missing: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        try:
            bound.append(_bound(socket.socket(family, kind, protocol), address))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for each in bound:
                    each.close()
                raise
            missing = error
    if missing and not bound:
        raise missing
    return bound


def _bound(listener: socket.socket, address: Any) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def say_where(sockets: list[socket.socket]) -> None:
    """Log the addresses."""
    for each in sockets:
        host, port = each.getsockname()[:2]
        logger.info("serving on http://%s:%d", f"[{host}]" if ":" in host else host, port)


def _http_protocol() -> Any:
    # Without httptools uvicorn takes h11, which drops trailers.
    if find_spec("httptools") is None:
        return "auto"
    from govmiddleware.cli.http_protocol import HttpProtocol

    return HttpProtocol


@contextmanager
def _without_cancellations() -> Iterator[None]:
    """uvicorn logs a traceback of every request that is cancelled."""

    def is_news(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))

    log = logging.getLogger("uvicorn.error")
    log.addFilter(is_news)
    try:
        yield
    finally:
        log.removeFilter(is_news)
