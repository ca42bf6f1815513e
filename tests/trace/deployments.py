"""The three ways to deploy, each before the provider of the trace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import fastapi
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from govmiddleware import Governance, GovernanceMiddleware
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import serve_in_thread
from tests.trace.trace import Step, steps

PATH = "/v1/chat/completions"

_STEPS = {str(step.number): step for step in steps()}

Governed = Callable[[Callable[..., Governance]], AbstractAsyncContextManager[tuple[ASGIApp, Governance]]]
"""From a maker of Governances that takes settings; the app that clients call."""


def _step(request: Request) -> Step:
    return _STEPS[request.headers["x-trace"]]


async def _complete(request: Request) -> Response:
    status, content_type, body = _step(request).answer((await request.json())["max_tokens"])
    return Response(body, status, media_type=content_type)


@asynccontextmanager
async def in_starlette(make: Callable[..., Governance]) -> AsyncIterator[tuple[ASGIApp, Governance]]:
    governance = make()
    app = Starlette(routes=[Route(PATH, _complete, methods=["POST"])])
    app.add_middleware(GovernanceMiddleware, governance=governance)
    yield app, governance


@asynccontextmanager
async def in_fastapi(make: Callable[..., Governance]) -> AsyncIterator[tuple[ASGIApp, Governance]]:
    governance = make()
    app = fastapi.FastAPI()
    app.add_middleware(GovernanceMiddleware, governance=governance)

    @app.post(PATH)
    async def complete(request: fastapi.Request) -> Response:
        return await _complete(request)

    yield app, governance


@asynccontextmanager
async def as_sidecar(make: Callable[..., Governance]) -> AsyncIterator[tuple[ASGIApp, Governance]]:
    provider = Starlette(routes=[Route(PATH, _complete, methods=["POST"])])
    with serve_in_thread(provider) as server:
        governance = make(upstream=server.url)
        sidecar = Sidecar(governance)
        yield sidecar, governance
        await sidecar.hang_up()


DEPLOYMENTS: dict[str, Governed] = {
    "in-starlette": in_starlette,
    "in-fastapi": in_fastapi,
    "as-sidecar": as_sidecar,
}
