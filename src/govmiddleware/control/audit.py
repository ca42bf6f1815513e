"""`audit`: do the books balance, and is the audit log whole?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from govmiddleware.control.access import Access
from govmiddleware.services.audit import Findings

Audit = Callable[[Collection[str] | None], Awaitable[Findings]]
"""Of these workspaces, or of all."""


def audit_routes(audit: Audit, access: Access) -> list[Route]:
    """`audit` (GET): the contract's *audit*, of the workspaces of whoever asks."""

    async def show(request: Request) -> Response:
        return JSONResponse((await audit(await access.workspaces(request))).shown())

    return [Route("/audit", show)]
