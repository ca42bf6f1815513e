"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from govmiddleware.control.access import Access
from govmiddleware.metrics import Metrics

Readiness = Callable[[], Awaitable[list[str]]]
"""What keeps calls from being governed right now, in words; empty when nothing does."""

Warnings = Callable[[], list[str]]
"""What people should look after, in words; calls go on."""


def health_routes(readiness: Readiness, warnings: Warnings, metrics: Metrics, access: Access) -> list[Route]:
    """`healthz`, `readyz` and `metrics`."""

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        problems = await readiness()
        answer = {"ready": not problems, "problems": problems, "warnings": warnings()}
        return JSONResponse(answer, 503 if problems else 200)

    async def show_metrics(request: Request) -> Response:
        access.check_metrics_token(request)
        # In a thread: with many workers there are many files to read.
        return Response(await asyncio.to_thread(metrics.exposition), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", show_metrics),
    ]
