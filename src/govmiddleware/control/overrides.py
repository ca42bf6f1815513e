"""`overrides`: asked for, seen, and decided. Whoever has an API token may ask; `services.override_changes` says who
decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from govmiddleware.control.access import Access
from govmiddleware.control.bodies import read_body
from govmiddleware.core.overrides import Override, OverrideState, Person
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.services.overrides import OverrideRequest, Overrides

_LARGEST_BODY = 16 * 1024
_FILTERS = {"state", "limit"}

Shape = TypeVar("Shape")
Decide = Callable[[str, Person, str | None], Awaitable[Override]]


class _Decision(msgspec.Struct, forbid_unknown_fields=True):
    reason: str | None = None


_requests = msgspec.json.Decoder(OverrideRequest)
_decisions = msgspec.json.Decoder(_Decision)


def override_routes(overrides: Overrides, access: Access) -> list[Route]:
    """`limits/{name}/override` (POST), `overrides` (GET; query: `state`, `limit`), and
    `overrides/{id}/approve|deny|revoke` (POST, perhaps with a `reason`)."""

    async def request_one(request: Request) -> Response:
        person = await access.person(request)
        asked = _decoded(
            _requests, await read_body(request, _LARGEST_BODY), "seconds, reason, and amount or factor"
        )
        override = await overrides.request(request.path_params["name"], asked, person)
        return await answer(override, 201)

    async def show_all(request: Request) -> Response:
        person = await access.person(request)
        if unknown := request.query_params.keys() - _FILTERS:
            raise InvalidRequest(f"There is no parameter {min(unknown)!r}; there are limit, state.")
        found = await overrides.list(person, state=_state(request), limit=request.query_params.get("limit"))
        return JSONResponse({"overrides": await overrides.shown(found)})

    def decision(decide: Decide) -> Callable[[Request], Awaitable[Response]]:
        async def decided(request: Request) -> Response:
            person, body = await access.person(request), await read_body(request, _LARGEST_BODY)
            reason = _decoded(_decisions, body, "reason, or nothing").reason if body else None
            return await answer(await decide(request.path_params["id"], person, reason), 200)

        return decided

    async def answer(override: Override, status: int) -> Response:
        (shown,) = await overrides.shown([override])
        return JSONResponse(shown, status)

    return [
        Route("/limits/{name}/override", request_one, methods=["POST"]),
        Route("/overrides", show_all),
        Route("/overrides/{id}/approve", decision(overrides.approve), methods=["POST"]),
        Route("/overrides/{id}/deny", decision(overrides.deny), methods=["POST"]),
        Route("/overrides/{id}/revoke", decision(overrides.revoke), methods=["POST"]),
    ]


def _decoded(decoder: msgspec.json.Decoder[Shape], body: bytes, expected: str) -> Shape:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"The body is a JSON object with {expected}: {error}") from error


def _state(request: Request) -> OverrideState | None:
    given = request.query_params.get("state")
    if given is not None and given not in list(OverrideState):
        raise InvalidRequest(
            f"There is no state {given!r}; there are {', '.join(OverrideState)}.", param="state"
        )
    return None if given is None else OverrideState(given)
