"""Who may read what on the control plane."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from govmiddleware.core.addresses import TrustedProxies
from govmiddleware.core.call import Role
from govmiddleware.core.refusals import Forbidden, Refusal
from govmiddleware.services.api_tokens import ApiTokens, same_secret, secret_in


@dataclass(frozen=True, slots=True)
class Reader:
    """Whoever asks. `workspaces` are those it may read; None: all."""

    workspaces: tuple[str, ...] | None


class Access:
    """Knows the admin token, which owns every workspace, and static tokens of role owner or admin, which
    read their own."""

    def __init__(
        self, api_tokens: ApiTokens, *, admin_token: str | None, trusted_proxies: TrustedProxies
    ) -> None:
        self._api_tokens = api_tokens
        self._admin_token = admin_token
        self._trusted_proxies = trusted_proxies

    async def reader(self, request: Request) -> Reader:
        """Raises Unauthenticated and Forbidden."""
        headers = request.scope["headers"]
        secret = secret_in(headers)
        if self._admin_token and same_secret(secret, self._admin_token):
            return Reader(None)
        address = self._trusted_proxies.client_address(request.scope.get("client"), headers)
        principal = await self._api_tokens.authenticate(secret, address)
        if principal.role is Role.OPERATOR or principal.stored_id is not None:
            raise Forbidden("This takes the admin token, or a configured API token of role owner or admin.")
        return Reader((principal.workspace,))

    async def refused(self, request: Request, refusal: Exception) -> Response:
        """The handler of Refusal: the same envelope as on the data side."""
        assert isinstance(refusal, Refusal)
        body = {"error": {"message": str(refusal), "code": refusal.code, "param": refusal.param}}
        return JSONResponse(body, refusal.status)
