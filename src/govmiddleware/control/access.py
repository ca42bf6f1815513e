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

    async def workspaces(self, request: Request) -> tuple[str, ...] | None:
        """Those that whoever asks may read and change; None: all. Raises Unauthenticated and Forbidden."""
        secret, address = self._credentials(request)
        if self._people.is_admin(secret, address):
            return None
        principal = await self._api_tokens.authenticate(secret, address)
        if principal.role is Role.OPERATOR or principal.stored_id is not None:
            raise Forbidden("This takes the admin token, or a configured API token of role owner or admin.")
        return (principal.workspace,)

    async def person(self, request: Request) -> Person:
        """Who asks, with the admin token or any API token; one that the store revoked is none.

        Raises Unauthenticated and StoreUnavailable.
        """
        return await self._people.identify(*self._credentials(request))

    def check_metrics_token(self, request: Request) -> None:
        """Raises Unauthenticated where there is a metrics token and the request does not bring it."""
        if self._metrics_token is None:
            return
        secret, address = self._credentials(request)
        if not self._api_tokens.is_same(secret, self._metrics_token, address):
            self._api_tokens.failed(address)
            raise Unauthenticated("The metrics take the metrics_token as a Bearer token.")

    def _credentials(self, request: Request) -> tuple[str | None, str]:
        headers = request.scope["headers"]
        return secret_in(headers), self._trusted_proxies.client_address(request.scope.get("client"), headers)

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
