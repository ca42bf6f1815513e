"""Who may read and change what on the control plane."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from govmiddleware.core.addresses import TrustedProxies
from govmiddleware.core.call import Role
from govmiddleware.core.overrides import Person
from govmiddleware.core.refusals import Forbidden, Refusal, Unauthenticated, Unavailable
from govmiddleware.services.api_tokens import ApiTokens, secret_in


class Access:
    """Knows the admin token, which owns every workspace, static tokens of role owner or admin, which have
    their own, and the metrics token. Guesses at any of them fall under the throttle of failed logins."""

    def __init__(
        self,
        api_tokens: ApiTokens,
        *,
        admin_token: str | None,
        metrics_token: str | None,
        trusted_proxies: TrustedProxies,
    ) -> None:
        self._api_tokens = api_tokens
        self._admin_token = admin_token
        self._metrics_token = metrics_token
        self._trusted_proxies = trusted_proxies

    async def person(self, request: Request) -> Person:
        """Who asks, whatever that one may do. Raises Unauthenticated."""
        secret, address = self._credentials(request)
        return await self.person_of(secret, address)

    async def person_of(self, secret: str | None, address: str) -> Person:
        """Who brings this secret, from this address. Raises Unauthenticated.

        An API token of the store is an operator here, whatever its role: whether it was revoked is known to
        admissions alone.
        """
        if self._admin_token and self._api_tokens.is_same(secret, self._admin_token, address):
            return Person("admin", Role.OWNER)
        principal = await self._api_tokens.authenticate(secret, address)
        role = principal.role if principal.stored_id is None else Role.OPERATOR
        return Person(f"api_token:{principal.api_token}", role, principal.workspace, principal.user)

    async def manager(self, request: Request) -> Person:
        """Who may read and change a workspace, or all of them. Raises Unauthenticated and Forbidden."""
        person = await self.person(request)
        if person.role is Role.OPERATOR:
            raise Forbidden("This takes the admin token, or a configured API token of role owner or admin.")
        return person

    async def workspaces(self, request: Request) -> tuple[str, ...] | None:
        """Those that whoever asks may read and change; None: all. Raises Unauthenticated and Forbidden."""
        return workspaces_of(await self.manager(request))

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
        return await self.refused(
            request, Unavailable("The journal's database does not answer.", code="history_unavailable")
        )


def workspaces_of(person: Person) -> tuple[str, ...] | None:
    """Those that are a person's own; None: all."""
    return None if person.workspace is None else (person.workspace,)
