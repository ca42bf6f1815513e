"""`usage/reset`: an owner takes back what a limit has counted."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from govmiddleware.control.access import Access
from govmiddleware.control.bodies import read_body
from govmiddleware.core.ids import new_request_id
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.services.usage_reset import UsageReset

_LARGEST_BODY = 16 * 1024
_LONGEST_ID = 128


class ResetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to reset. `id` can also be the header `Idempotency-Key`."""

    limit: str
    value: str | list[str] | None = None
    workspace: str | None = None
    id: str | None = None


def reset_routes(usage_reset: UsageReset, access: Access) -> list[Route]:
    """`usage/reset` (POST)."""

    async def reset(request: Request) -> Response:
        person = await access.manager(request)
        try:
            body = msgspec.json.decode(await read_body(request, _LARGEST_BODY), type=ResetBody)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidRequest(f"The body is JSON, {{limit, value, workspace, id}}: {error}") from error
        done = await usage_reset.reset(
            person,
            limit=body.limit,
            value=body.value,
            workspace=body.workspace,
            request_id=_id(request, body),
        )
        return JSONResponse(done)

    return [Route("/usage/reset", reset, methods=["POST"])]


def _id(request: Request, body: ResetBody) -> str:
    header = request.headers.get("idempotency-key")
    if header is not None and body.id not in (None, header):
        raise InvalidRequest("The id of the body is not the Idempotency-Key of the header.", param="id")
    found = header if header is not None else body.id
    if found is None:
        return new_request_id()
    if not (0 < len(found) <= _LONGEST_ID and found.isprintable() and found.isascii()):
        raise InvalidRequest(f"The id has 1 to {_LONGEST_ID} printable ASCII characters.", param="id")
    return found
