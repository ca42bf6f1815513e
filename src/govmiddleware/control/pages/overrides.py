"""The page of an override: what was asked for, and a form for whoever decides."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from govmiddleware.control.access import Access
from govmiddleware.control.pages.forms import read_fields, shaped
from govmiddleware.control.pages.rendering import answer, described, page
from govmiddleware.core.overrides import Override
from govmiddleware.core.refusals import OverrideNotFound, Refusal
from govmiddleware.services.links import Links
from govmiddleware.services.overrides import Overrides
from govmiddleware.services.standing import Standings


class _Decision(msgspec.Struct, forbid_unknown_fields=True):
    """The API token comes with the form: no cookie, so that no other site's form can decide anything."""

    decision: Literal["approve", "deny", "revoke"]
    api_token: str | None = None
    reason: str | None = None


_DONE = {
    "approve": "Your approval is recorded.",
    "deny": "The request is denied.",
    "revoke": "The override is revoked: nothing passes by it any more.",
}


def override_pages(links: Links, overrides: Overrides, standings: Standings, access: Access) -> list[Route]:
    """`overrides/{id}`: GET shows it to whoever knows its id, which nobody guesses; POST decides, with the API token
    of who does."""

    async def show(request: Request) -> Response:
        override = await found(request)
        return answer(request, "override", await facts(override))

    async def decide(request: Request) -> Response:
        override = await found(request)
        decisions = {
            "approve": overrides.approve,
            "deny": overrides.deny,
            "revoke": overrides.revoke,
        }
        try:
            given = shaped(await read_fields(request), _Decision)
            person = await access.person_with(given.api_token, request)
            override = await decisions[given.decision](override.id, person, given.reason)
        except Refusal as refusal:
            shown = await facts(await found(request)) | {"error": described(refusal)}
            return answer(request, "override", shown, refusal.status)
        return answer(request, "override", await facts(override) | {"done": _DONE[given.decision]})

    async def found(request: Request) -> Override:
        known = await overrides.find(request.path_params["id"])
        if not known:
            access.guessed(request)
            raise OverrideNotFound("There is no such override.")
        return known[0]

    async def facts(override: Override) -> dict[str, Any]:
        (shown,) = await overrides.shown([override])
        standing = await standings.find(override.workspace, override.limit, override.value)
        return {
            "override": shown,
            "scope": override.scope,
            "meter": override.meter.value,
            "now": standing.shown() if standing else None,
            "page": links.override(override.id),
            "api": links.override_api(override.id),
            "done": None,
            "error": None,
        }

    return [
        Route("/overrides/{id}", page(show)),
        Route("/overrides/{id}", page(decide), methods=["POST"]),
    ]
