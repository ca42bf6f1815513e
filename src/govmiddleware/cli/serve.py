"""`serve`: the sidecar, on a real server, in one process or many."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Parameter

from govmiddleware import metrics
from govmiddleware.app import Governance
from govmiddleware.cli.common import Config, Redis, log_to_stderr
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings import Settings, load
from govmiddleware.sidecar import Sidecar


def serve(
    *,
    config: Config = None,
    upstream: Annotated[
        str | None, Parameter(help="Where to forward to: origin and optional prefix.")
    ] = None,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 8080,
    redis: Redis = None,
    workers: Annotated[
        int,
        Parameter(
            help="Worker processes. From 2 on a supervisor keeps them: SIGHUP reads the configuration"
            " again and replaces them one by one."
        ),
    ] = 1,
    drain_seconds: Annotated[
        float, Parameter(help="How long running answers may go on after SIGTERM; then they are cut.")
    ] = 30,
    drain_delay_seconds: Annotated[
        float,
        Parameter(
            help="How long to take new connections after SIGTERM, while /gov/readyz says no: until load"
            " balancers have noticed."
        ),
    ] = 0,
) -> int:
    """Govern what clients send to an upstream."""
    try:
        from govmiddleware.cli.server import COULD_NOT_START, Server, listen, say_where
    except ModuleNotFoundError as error:
        if error.name != "uvicorn":
            raise
        raise ConfigurationError(
            "serve", "uvicorn is missing", "the server extra: pip install 'govmiddleware[server]'"
        ) from None
    if workers < 1:
        raise ConfigurationError("--workers", workers, "a whole number from 1 on")
    if workers > 1 and os.name == "nt":
        raise ConfigurationError("--workers", workers, "1, for the supervisor lives by the signals of Unix")
    if drain_seconds < 0:
        raise ConfigurationError("--drain-seconds", drain_seconds, "a number from 0 on")
    if drain_delay_seconds < 0:
        raise ConfigurationError("--drain-delay-seconds", drain_delay_seconds, "a number from 0 on")

    def read() -> tuple[Settings, Sidecar]:
        settings = load(config, upstream=upstream, redis_url=redis)
        if "public_url" not in settings.model_fields_set:
            settings = settings.model_copy(update={"public_url": f"http://127.0.0.1:{port}"})
        sidecar = Sidecar(Governance(settings))
        # What `load` returns is of a class of its own making, which cannot be pickled for a worker.
        return Settings.model_construct(**dict(settings)), sidecar

    settings, sidecar = read()  # also with many workers: what is wrong is said here, once
    try:
        sockets = listen(host, port)
    except OSError as error:
        print(f"govmiddleware: cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
        return COULD_NOT_START
    log_to_stderr(settings, with_process=workers > 1)
    if workers == 1:
        server = Server(
            sidecar,
            drain_seconds=drain_seconds,
            started=lambda: say_where(sockets),
            leaving=sidecar.leave,
            drain_delay_seconds=drain_delay_seconds,
        )
        try:
            server.run(sockets)
        except SystemExit as end:  # how uvicorn ends
            return COULD_NOT_START if end.code else 0
        return 0

    from govmiddleware.cli.supervisor import Supervisor

    def reload() -> Settings:
        settings, _ = read()
        log_to_stderr(settings, with_process=True)
        return settings

    with _shared_metrics():
        supervisor = Supervisor(
            settings,
            sockets,
            workers=workers,
            drain_seconds=drain_seconds,
            drain_delay_seconds=drain_delay_seconds,
            reload=reload,
        )
        return asyncio.run(supervisor.run())


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """A private directory for the metrics of all workers, unless the environment names one."""
    if metrics.DIRECTORY in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="govmiddleware-metrics-") as directory:
        os.environ[metrics.DIRECTORY] = directory
        try:
            yield
        finally:
            del os.environ[metrics.DIRECTORY]
