"""`limits`: those in force, and the stored ones to be changed."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from govmiddleware.control.access import Access, workspaces_of
from govmiddleware.control.bodies import read_body
from govmiddleware.core.refusals import Forbidden, InvalidRequest, LimitNotFound
from govmiddleware.errors import ConfigurationError
from govmiddleware.services.limits import LimitRegistry, RegisteredLimit

_LARGEST_BODY = 64 * 1024

Workspaces = tuple[str, ...] | None


def limit_routes(limits: LimitRegistry, access: Access) -> list[Route]:
    """`limits` (GET), and `limits/{name}` (GET, PUT, DELETE).

    The admin token has all; a token of role owner or admin those whose `workspace` is its own. A limit is JSON
    in the names of the file, and has its `source` beside: `file` or `store`.
    """

    async def show_all(request: Request) -> Response:
        workspaces = await access.workspaces(request)
        found = [limit for limit in await limits.all() if _is_theirs(limit.limit.workspace, workspaces)]
        return JSONResponse({"limits": [_shown(limit) for limit in found]})

    async def show(request: Request) -> Response:
        limit = await find(request, await access.workspaces(request))
        if limit is None:
            raise _not_found(request)
        return JSONResponse(_shown(limit))

    async def put(request: Request) -> Response:
        person = await access.manager(request)
        workspaces = workspaces_of(person)
        fields = await _fields(request)
        await find(request, workspaces)
        _check_theirs(fields.get("workspace"), workspaces)
        try:
            limit, created = await limits.put(fields, actor=person.name)
        except ConfigurationError as error:
            raise InvalidRequest(str(error), param=error.key) from error
        return JSONResponse(_shown(limit), 201 if created else 200)

    async def delete(request: Request) -> Response:
        person = await access.manager(request)
        await find(request, workspaces_of(person))
        if not await limits.delete(request.path_params["name"], actor=person.name):
            raise _not_found(request)
        return Response(status_code=204)

    async def find(request: Request, workspaces: Workspaces) -> RegisteredLimit | None:
        limit = await limits.find(request.path_params["name"])
        if limit is not None:
            _check_theirs(limit.limit.workspace, workspaces)
        elif limits.is_unreadable(request.path_params["name"]):
            _check_theirs(None, workspaces)  # nobody knows whose it is
        return limit

    return [
        Route("/limits", show_all),
        Route("/limits/{name}", show),
        Route("/limits/{name}", put, methods=["PUT"]),
        Route("/limits/{name}", delete, methods=["DELETE"]),
    ]


async def _fields(request: Request) -> dict[str, object]:
    """The limit that a request brings. Raises InvalidRequest and BodyTooLarge."""
    name, body = request.path_params["name"], await read_body(request, _LARGEST_BODY)
    try:
        fields = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(
            f"The body is a limit as a JSON object, in the names of the file: {error}"
        ) from error
    if fields.get("name", name) != name:
        raise InvalidRequest(f"The limit is called {name} in the path.", param="name")
    return {**fields, "name": name}


def _is_theirs(workspace: object, workspaces: Workspaces) -> bool:
    return workspaces is None or workspace in workspaces


def _check_theirs(workspace: object, workspaces: Workspaces) -> None:
    if not _is_theirs(workspace, workspaces):
        raise Forbidden("This takes the admin token: the limit is not one of this workspace alone.")


def _not_found(request: Request) -> LimitNotFound:
    return LimitNotFound(f"There is no limit called {request.path_params['name']}.")


def _shown(limit: RegisteredLimit) -> dict[str, object]:
    return {**limit.fields, "source": limit.source}
