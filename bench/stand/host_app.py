"""A Starlette app that answers chat completions itself, bare or governed, for `uvicorn --factory`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stand.mock_upstream import CHAT


async def chat(request: Request) -> Response:
    json.loads(await request.body())
    return Response(CHAT, media_type="application/json")


def bare() -> Starlette:
    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])


def governed() -> Starlette:
    """With the configuration that `CONFIG` names."""
    from govmiddleware import Governance, GovernanceMiddleware
    from govmiddleware.settings import load

    app = bare()
    app.add_middleware(GovernanceMiddleware, governance=Governance(load(Path(os.environ["CONFIG"]))))
    return app
