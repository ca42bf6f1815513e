"""Run an ASGI app on a real server, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_PATIENCE_SECONDS = 10.0
_FAREWELL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where a server listens.

    Attributes:
        url: the origin, without a trailing slash; for a unix socket the host is `localhost`.
        uds: the socket's path, where it is a unix socket.
    """

    url: str
    host: str
    port: int
    uds: str | None = None


@contextmanager
def serve_in_thread(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    uds: str | None = None,
    **options: Any,
) -> Iterator[RunningServer]:
    """Serve `app` while the block runs, on a port that is free unless one is given.

    Leaving the block stops the server within a fraction of a second: requests that are still running
    are cancelled. Exceptions of the app end up in the log, as on any server.

    Args:
        options: more of `uvicorn.Config`. By default the server adds no headers and trusts none.

    Raises OSError where the address is taken, RuntimeError where the app's lifespan fails.
    """
    listener = _bind(host, port, uds)
    settings: dict[str, Any] = {
        "lifespan": "auto",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": 1,
    }
    server = _Server(uvicorn.Config(app, **(settings | options)))
    thread = threading.Thread(
        target=server.run_until_stopped, args=(listener,), name="asgi-server", daemon=True
    )
    thread.start()
    try:
        if not server.ready.wait(_PATIENCE_SECONDS) or not server.started:
            raise RuntimeError("the server did not start; its log says why")
        bound_port = 0 if uds else listener.getsockname()[1]
        url = "http://localhost" if uds else f"http://{host}:{bound_port}"
        yield RunningServer(url=url, host=host, port=bound_port, uds=uds)
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_SECONDS)
        listener.close()
        if uds:
            Path(uds).unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """Says when it has started or failed to, and stops without waiting for clients."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    def run_until_stopped(self, listener: socket.socket) -> None:
        try:
            self.run(sockets=[listener])
        except SystemExit:
            pass  # how uvicorn ends where the lifespan fails; `started` is False then
        finally:
            self.ready.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn would wait for clients that keep a connection open and for requests that never end.
        for connection in list(self.server_state.connections):
            if (transport := connection.transport) is not None:
                transport.abort()
        if tasks := set(self.server_state.tasks):
            _, running = await asyncio.wait(tasks, timeout=_FAREWELL_SECONDS)
            for task in running:
                task.cancel()
        await super().shutdown(sockets=sockets)


def _bind(host: str, port: int, uds: str | None) -> socket.socket:
    if uds:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: Any = uds
    else:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address = (host, port)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
