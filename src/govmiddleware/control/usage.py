"""`usage`, whole or by one dimension."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from govmiddleware.control.access import Access
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.reports import EXPECTED_DIMENSION, is_dimension
from govmiddleware.core.times import parse_time
from govmiddleware.services.usage import UsageReports

_PLURALS = {
    "models": "model",
    "providers": "provider",
    "agents": "agent",
    "users": "user",
    "sessions": "session",
    "api_tokens": "api_token",
}
_PARAMETERS = {"by", "since", "until"}


def usage_routes(usage: UsageReports, access: Access) -> list[Route]:
    """`usage`, `usage/{dimension}` and `usage/{dimension}/{id}`; query: `by`, `since`, `until`."""

    async def show(request: Request) -> Response:
        workspaces = await access.workspaces(request)
        if unknown := request.query_params.keys() - _PARAMETERS:
            expected = ", ".join(sorted(_PARAMETERS))
            raise InvalidRequest(f"There is no parameter {min(unknown)!r}; there are {expected}.")
        dimension = request.path_params.get("dimension")
        if dimension is not None and dimension not in _PLURALS:
            raise InvalidRequest(f"There is no usage/{dimension}; there are {', '.join(_PLURALS)}.")
        by = _PLURALS[dimension] if dimension else request.query_params.get("by")
        if by is not None and not is_dimension(by):
            raise InvalidRequest(f"There is no by={by!r}; there is {EXPECTED_DIMENSION}.", param="by")
        since, until = _time(request, "since"), _time(request, "until")
        only = request.path_params.get("id")
        return JSONResponse(
            await usage.report(workspaces=workspaces, by=by, only=only, since=since, until=until)
        )

    return [
        Route("/usage", show),
        Route("/usage/{dimension}", show),
        Route("/usage/{dimension}/{id:path}", show),
    ]


def _time(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise InvalidRequest(str(error), param=name) from error
