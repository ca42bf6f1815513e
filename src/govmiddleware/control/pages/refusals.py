"""The page of a refusal: what was refused, where its limit stands now, and how to ask for more."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from govmiddleware.control.access import Access
from govmiddleware.control.pages.forms import read_fields, shaped
from govmiddleware.control.pages.rendering import answer, described, is_for_browsers, page
from govmiddleware.core.limits import Meter
from govmiddleware.core.refusals import Refusal, UnknownLink
from govmiddleware.core.times import rfc3339
from govmiddleware.services.links import Links, RefusedCall
from govmiddleware.services.overrides import OverrideRequest, Overrides
from govmiddleware.services.records import amount_shown
from govmiddleware.services.standing import Standings


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What a link's form has; the rest of an OverrideRequest is in the link."""

    reason: str
    seconds: int = 3600
    amount: Decimal | None = None
    factor: Decimal | None = None


def refusal_pages(links: Links, overrides: Overrides, standings: Standings, access: Access) -> list[Route]:
    """`refusals/{token}`: GET shows it, POST asks for an override as the caller that was refused."""

    async def show(request: Request) -> Response:
        refused = refused_call(request)
        return answer(request, "refusal", await facts(refused))

    async def ask(request: Request) -> Response:
        refused = refused_call(request)
        fields: dict[str, object] = {}
        try:
            fields = await read_fields(request)
            asked = shaped(fields, _Asked)
            override = await overrides.request(
                refused.limit,
                OverrideRequest(
                    seconds=asked.seconds,
                    reason=asked.reason,
                    amount=asked.amount,
                    factor=asked.factor,
                    value=refused.value,
                    for_user=refused.on_behalf_of,
                ),
                refused.person,
            )
        except Refusal as refusal:
            shown = await facts(refused) | {"error": described(refusal)}
            return answer(request, "refusal", shown, refusal.status, given=fields)
        if is_for_browsers(request):
            # Relative: a proxy in front may have put a prefix before our path. A reload does not ask again.
            return RedirectResponse(request.path_params["token"], 303)
        (shown,) = await overrides.shown([override])
        facts_of = {"override": shown, "meter": refused.meter, "page": links.override(override.id)}
        return answer(request, "requested", facts_of, 201)

    def refused_call(request: Request) -> RefusedCall:
        try:
            return links.read(request.path_params["token"])
        except UnknownLink:
            access.guessed(request)
            raise

    async def facts(refused: RefusedCall) -> dict[str, Any]:
        known = await overrides.list(refused.person, limit=refused.limit)
        standing = await standings.find(refused.workspace, refused.limit, refused.value)
        return {
            "refused": {
                "workspace": refused.workspace,
                "api_token": refused.api_token,
                "user": refused.on_behalf_of or refused.user,
                "request_id": refused.request_id,
                "model": refused.model,
                "limit": refused.limit,
                "scope": refused.scope,
                "value": refused.value,
                "meter": refused.meter,
                "requested": amount_shown(Meter(refused.meter), refused.asked),
                "at": rfc3339(refused.at * 1000),
            },
            "now": standing.shown() if standing else None,
            "overrides": await overrides.shown(each for each in known if each.value == refused.value),
            "link": links.refusal(links.token(refused)),
            "error": None,
        }

    return [
        Route("/refusals/{token}", page(show)),
        Route("/refusals/{token}", page(ask), methods=["POST"]),
    ]
