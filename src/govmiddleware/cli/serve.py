"""`serve`: the sidecar, on a real server."""

from __future__ import annotations

import logging
import signal
import sys
from importlib.util import find_spec
from typing import Annotated, Any

from cyclopts import Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import Config, Redis
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings import load
from govmiddleware.sidecar import Sidecar

_DRAIN_SECONDS = 30
"""How long running answers may go on after SIGTERM or Ctrl-C; then they are cut, and settled."""

_COULD_NOT_START = 3


def serve(
    *,
    config: Config = None,
    upstream: Annotated[
        str | None, Parameter(help="Where to forward to: origin and optional prefix.")
    ] = None,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on.")] = 8080,
    redis: Redis = None,
) -> int:
    """Govern what clients send to an upstream."""
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise ConfigurationError(
            "serve", "uvicorn is missing", "the server extra: pip install 'govmiddleware[server]'"
        ) from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sidecar = Sidecar(Governance(load(config, upstream=upstream, redis_url=redis)))
    # Without httptools uvicorn takes h11, which drops trailers.
    http: Any = "auto"
    if find_spec("httptools") is not None:
        from govmiddleware.cli.http_protocol import HttpProtocol

        http = HttpProtocol
    server = uvicorn.Server(
        uvicorn.Config(
            sidecar,
            host=host,
            port=port,
            http=http,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # trusted_proxies decides whose word counts
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )
    # uvicorn drains on SIGTERM, then raises it again for the handler that was there before it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run()
    except (
        SystemExit
    ) as end:  # also how uvicorn ends where it cannot bind or the lifespan fails; its log says why
        return _COULD_NOT_START if end.code else 0
    return 0
