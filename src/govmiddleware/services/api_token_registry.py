"""The API tokens of the store, as people change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from govmiddleware.core.audit_log import Action
from govmiddleware.core.registries import ApiTokenStore, Registry, RegistryCopy, StoredApiToken
from govmiddleware.services.registries import token_copy


class ApiTokenRegistry:
    """Creates and revokes API tokens. The audit log and the copy have each change before it is made.

    Args:
        configured: workspace and name of those of the file.
    """

    def __init__(
        self, store: ApiTokenStore, copy: RegistryCopy, *, configured: Iterable[tuple[str, str]]
    ) -> None:
        self._store = store
        self._copy = copy
        self._configured = frozenset(configured)

    async def add(self, token: StoredApiToken, sha256: str, *, actor: str) -> bool:
        """False where its workspace has an active one of this name. Raises StoreUnavailable, HistoryUnavailable."""
        stored = {(each.workspace, each.name) for each in await self._store.list() if each.active}
        if (token.workspace, token.name) in self._configured | stored:
            return False
        details = {
            "id": token.id,
            "role": token.role,
            "user": token.user,
            "agent": token.agent,
            "expires_at": token.expires_at,
        }
        await self._copy.put(token_copy(token, sha256), _action(actor, "api_token.created", token, details))
        await self._store.add(token, sha256)
        return True

    async def revoke(self, token: StoredApiToken, *, actor: str) -> bool:
        """False where it was revoked already. Raises StoreUnavailable, HistoryUnavailable."""
        action = _action(actor, "api_token.revoked", token, {"id": token.id})
        await self._copy.delete(Registry.API_TOKEN, token.id, action)
        return await self._store.revoke(token)


def _action(actor: str, action: str, token: StoredApiToken, details: Mapping[str, object]) -> Action:
    return Action(token.workspace, actor, action, f"api_token:{token.name}", details)
