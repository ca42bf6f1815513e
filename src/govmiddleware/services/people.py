"""Who somebody is that asks or decides: by the admin token, or by an API token."""

from __future__ import annotations

from govmiddleware.core.call import Role
from govmiddleware.core.overrides import ADMIN, Person
from govmiddleware.services.api_tokens import ApiTokens


class People:
    """Guesses at tokens fall under the throttle of failed logins."""

    def __init__(self, api_tokens: ApiTokens, admin_token: str | None) -> None:
        self._api_tokens = api_tokens
        self._admin_token = admin_token

    def is_admin(self, secret: str | None, address: str) -> bool:
        """Raises TooManyFailedLogins."""
        return bool(self._admin_token) and self._api_tokens.is_same(secret, self._admin_token or "", address)

    async def identify(self, secret: str | None, address: str) -> Person:
        """Who brings this secret; an API token that was revoked is nobody's.

        Raises Unauthenticated, TooManyFailedLogins, Unavailable and StoreUnavailable.
        """
        if self.is_admin(secret, address):
            return Person(ADMIN, Role.OWNER)
        return Person.of(await self._api_tokens.authenticate_active(secret, address))
