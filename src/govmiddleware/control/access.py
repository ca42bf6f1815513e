"""Who may read and change what on the control plane."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from govmiddleware.core.addresses import TrustedProxies
from govmiddleware.core.call import Role
from govmiddleware.core.overrides import Person
from govmiddleware.core.refusals import Forbidden, Refusal, Unauthenticated, Unavailable
from govmiddleware.services.api_tokens import ApiTokens, secret_in
from govmiddleware.services.people import People


class Access:
    """Knows the admin token, which owns every workspace, static tokens of role owner or admin, which have
    their own, and the metrics token. Guesses at any of them fall under the throttle of failed logins."""

    def __init__(
        self,
        api_tokens: ApiTokens,
        people: People,
        *,
        metrics_token: str | None,
        trusted_proxies: TrustedProxies,
    ) -> None:
        self._api_tokens = api_tokens
        self._people = people
        self._metrics_token = metrics_token
        self._trusted_proxies = trusted_proxies

    async def person(self, request: Request) -> Person:
        """Who asks, with the admin token or any API token; one that the store revoked is none.

        Raises Unauthenticated and StoreUnavailable.
        """
        return await self.person_with(secret_in(request.scope["headers"]), request)

    async def person_with(self, secret: str | None, request: Request) -> Person:
        """The same, where a form of the request brings the secret."""
        return await self._people.identify(secret, self._address(request))

    async def manager(self, request: Request) -> Person:
        """Who may read and change a workspace, or all of them. Raises Unauthenticated and Forbidden."""
        person = await self.person(request)
        if person.role is Role.OPERATOR:
            raise Forbidden("This takes the admin token, or a configured API token of role owner or admin.")
        return person

    async def workspaces(self, request: Request) -> tuple[str, ...] | None:
        """Those that whoever asks may read and change; None: all. Raises Unauthenticated and Forbidden."""
        return workspaces_of(await self.manager(request))

    def guessed(self, request: Request) -> None:
        """Count a wrong guess at the address of a page. Raises TooManyFailedLogins where there were many."""
        self._api_tokens.guessed(self._address(request))

    def check_metrics_token(self, request: Request) -> None:
        """Raises Unauthenticated where there is a metrics token and the request does not bring it."""
        if self._metrics_token is None:
            return
        secret, address = secret_in(request.scope["headers"]), self._address(request)
        if not self._api_tokens.is_same(secret, self._metrics_token, address):
            self._api_tokens.failed(address)
            raise Unauthenticated("The metrics take the metrics_token as a Bearer token.")

    def _address(self, request: Request) -> str:
        return self._trusted_proxies.client_address(request.scope.get("client"), request.scope["headers"])

    async def refused(self, request: Request, refusal: Exception) -> Response:
        """The handler of Refusal: the same envelope as on the data side."""
        assert isinstance(refusal, Refusal)
        body = {"error": {"message": str(refusal), "code": refusal.code, "param": refusal.param}}
        return JSONResponse(body, refusal.status)

    async def without_store(self, request: Request, error: Exception) -> Response:
        """The handler of StoreUnavailable."""
        return await self.refused(
            request, Unavailable("The store does not answer.", code="store_unavailable")
        )

    async def without_history(self, request: Request, error: Exception) -> Response:
        """The handler of HistoryUnavailable."""
        problem = "The SQL database of the journal does not answer."
        return await self.refused(request, Unavailable(problem, code="journal_unavailable"))


def workspaces_of(person: Person) -> tuple[str, ...] | None:
    """Those that are a person's own; None: all."""
    return None if person.workspace is None else (person.workspace,)
