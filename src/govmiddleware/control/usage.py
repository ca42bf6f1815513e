"""`usage`: whole, by one dimension, in time; and its reset."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from govmiddleware.control.access import Access
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.reports import EXPECTED_DIMENSION, is_dimension
from govmiddleware.core.slices import Unit
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


def usage_routes(usage: UsageReports, access: Access) -> list[Route]:
    """`usage`, `usage/{dimension}` and `usage/{dimension}/{id}`, with `by`, `since`, `until` as query; and
    `usage/timeline`, with `bucket` and `timezone` too."""

    async def show(request: Request) -> Response:
        workspaces = await access.workspaces(request)
        _check_parameters(request, ("by", "since", "until"))
        dimension = request.path_params.get("dimension")
        if dimension is not None and dimension not in _PLURALS:
            raise InvalidRequest(
                f"There is no usage/{dimension}; there are {', '.join((*_PLURALS, 'timeline'))}."
            )
        report = await usage.report(
            workspaces=workspaces,
            by=_PLURALS[dimension] if dimension else _by(request),
            only=request.path_params.get("id"),
            since=_time(request, "since"),
            until=_time(request, "until"),
        )
        return JSONResponse(report)

    async def show_timeline(request: Request) -> Response:
        workspaces = await access.workspaces(request)
        _check_parameters(request, ("bucket", "by", "since", "timezone", "until"))
        bucket = request.query_params.get("bucket", Unit.DAY)
        if bucket not in list(Unit):
            raise InvalidRequest(
                f"There is no bucket={bucket!r}; there are {', '.join(Unit)}.", param="bucket"
            )
        by, since, until = _by(request), _time(request, "since"), _time(request, "until")
        try:
            timeline = await usage.timeline(
                bucket=Unit(bucket),
                timezone=request.query_params.get("timezone", "UTC"),
                workspaces=workspaces,
                by=by,
                since=since,
                until=until,
            )
        except ValueError as error:
            raise InvalidRequest(f"This timeline cannot be made: {error}.") from error
        return JSONResponse(timeline)

    return [
        Route("/usage", show),
        Route("/usage/timeline", show_timeline),
        Route("/usage/{dimension}", show),
        Route("/usage/{dimension}/{id:path}", show),
    ]


def _check_parameters(request: Request, known: Iterable[str]) -> None:
    if unknown := request.query_params.keys() - set(known):
        raise InvalidRequest(f"There is no parameter {min(unknown)!r}; there are {', '.join(known)}.")


def _by(request: Request) -> str | None:
    by = request.query_params.get("by")
    if by is not None and not is_dimension(by):
        raise InvalidRequest(f"There is no by={by!r}; there is {EXPECTED_DIMENSION}.", param="by")
    return by


def _time(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise InvalidRequest(str(error), param=name) from error
