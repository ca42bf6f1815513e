"""How pages look: HTML for browsers, JSON for programs and text for terminals, all of the same facts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from govmiddleware.core.refusals import Refusal, Unavailable
from govmiddleware.core.wording import amount_words, duration_words
from govmiddleware.errors import HistoryUnavailable, StoreUnavailable

if TYPE_CHECKING:
    from jinja2 import Environment

Endpoint = Callable[[Request], Awaitable[Response]]

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",  # the address of a page is all that it takes to see it
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}
_KINDS = {"text/html": "html", "application/json": "json", "text/plain": "text"}


def answer(
    request: Request,
    name: str,
    facts: Mapping[str, Any],
    status: int = 200,
    *,
    given: Mapping[str, object] = MappingProxyType({}),
) -> Response:
    """A page in the first kind that the client accepts; for who accepts anything, as curl does, text.

    Args:
        name: of its two templates.
        facts: what they show, and the JSON as it is.
        given: what was filled in, to be put right.
    """
    match _wanted(request):
        case "json":
            return JSONResponse(facts, status, _HEADERS)
        case "html":
            return HTMLResponse(
                _templates().get_template(f"{name}.html").render(facts, given=given), status, _HEADERS
            )
        case _:
            return PlainTextResponse(_templates().get_template(f"{name}.txt").render(facts), status, _HEADERS)


def is_for_browsers(request: Request) -> bool:
    return _wanted(request) == "html"


def page(endpoint: Endpoint) -> Endpoint:
    """What goes wrong is a page too."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refusal as refusal:
            return problem(request, refusal)
        except StoreUnavailable:
            words = "The store that keeps the limits does not answer; try again shortly."
            return problem(request, Unavailable(words, code="store_unavailable"))
        except HistoryUnavailable:
            words = "The database that keeps the overrides does not answer; try again shortly."
            return problem(request, Unavailable(words, code="journal_unavailable"))

    return answered


def problem(request: Request, refusal: Refusal) -> Response:
    """The page that says no."""
    return answer(request, "problem", {"error": described(refusal)}, refusal.status)


def described(refusal: Refusal) -> dict[str, Any]:
    return {"message": str(refusal), "code": refusal.code, "param": refusal.param}


def stylesheet() -> Route:
    """`pages.css`."""
    css = (files("govmiddleware.control.pages") / "templates" / "pages.css").read_text("utf-8")

    async def show(request: Request) -> Response:
        return Response(css, media_type="text/css", headers={"x-content-type-options": "nosniff"})

    return Route("/pages.css", show)


def _wanted(request: Request) -> str:
    for accepted in request.headers.get("accept", "").split(","):
        if (kind := _KINDS.get(accepted.partition(";")[0].strip().lower())) is not None:
            return kind
    return "text"


def _moment(text: str) -> str:
    """RFC 3339 for people.

    >>> _moment("2026-11-22T10:00:00.123Z")
    '2026-11-22 10:00:00 UTC'
    """
    return f"{text[:10]} {text[11:19]} UTC"


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # late: most processes never show a page

    made = Environment(
        loader=PackageLoader("govmiddleware.control.pages", "templates"),
        autoescape=lambda name: name is None or not name.endswith(".txt"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # `repr` also shows what would steer a terminal as what it is.
    made.filters |= {"amount": amount_words, "duration": duration_words, "moment": _moment, "repr": repr}
    return made
