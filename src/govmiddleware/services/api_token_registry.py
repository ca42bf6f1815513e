"""The API tokens of the store, as people change them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec.structs import replace

from govmiddleware.core.audit_log import Action
from govmiddleware.core.registries import ApiTokenStore, Registry, RegistryCopy, StoredApiToken
from govmiddleware.services.registries import token_copy


class Imported(StrEnum):
    """What becomes of an API token that is brought over."""

    CREATED = "created"
    KNOWN = "known"  # by its secret: it stays as it is here
    REVOKED = "revoked"  # here, which an import does not take back
    NAME_TAKEN = "name_taken"  # by another secret


class ApiTokenRegistry:
    """Creates, rotates, imports and revokes API tokens. The audit log and the copy have each change before it is made.

    Args:
        configured: workspace and name of those of the file, by the SHA-256 of their secrets.
    """

    def __init__(
        self, store: ApiTokenStore, copy: RegistryCopy, *, configured: Mapping[str, tuple[str, str]]
    ) -> None:
        self._store = store
        self._copy = copy
        self._configured = configured

    async def add(self, token: StoredApiToken, sha256: str, *, actor: str) -> bool:
        """False where its workspace has a live one of this name. Raises StoreUnavailable, HistoryUnavailable."""
        if (token.workspace, token.name) in self._names(await self._store.list()):
            return False
        await self._create(token, sha256, actor=actor)
        return True

    async def bring(
        self, tokens: Sequence[tuple[StoredApiToken, str]], *, actor: str, dry_run: bool = False
    ) -> list[Imported]:
        """Add those that are not known by their secret, in their order: all, or none where a name is taken. It can be
        done again, as where it was interrupted.

        Args:
            tokens: each with the SHA-256 of its secret; no two with the same, nor of the same name and workspace.
            dry_run: only say what would become of each.

        Raises StoreUnavailable, HistoryUnavailable.
        """
        stored = await self._store.list()
        active = {token.id for token in stored if token.active}
        names = self._names(stored)
        results = [await self._brought(token, sha256, active, names) for token, sha256 in tokens]
        if not dry_run and Imported.NAME_TAKEN not in results:
            for (token, sha256), result in zip(tokens, results, strict=True):
                if result is Imported.CREATED:
                    await self._create(token, sha256, actor=actor)
        return results

    async def rotate(
        self, token: StoredApiToken, successor: StoredApiToken, sha256: str, *, old_until: int, actor: str
    ) -> int:
        """Add a successor, of the same name, so that it counts on the same limits; the old one ends at `old_until`
        (Unix seconds), or now where that has come. Its expiry is never put off. Returns when it ends.

        Args:
            sha256: of the successor's secret.

        Raises StoreUnavailable, HistoryUnavailable.
        """
        hashes = {each.id: hashed for hashed, each in (await self._store.active()).items()}
        await self._create(successor, sha256, actor=actor, rotates=token.id)
        if old_until <= time.time():
            await self.revoke(token, actor=actor)
            return old_until
        ends_at = min(old_until, token.expires_at or old_until)
        ending = replace(token, expires_at=ends_at)
        details = {"id": token.id, "expires_at": ends_at}
        action = _action(actor, "api_token.rotated", token, details)
        await self._copy.put(token_copy(ending, hashes[token.id]), action)
        await self._store.replace(ending, hashes[token.id])
        return ends_at

    async def revoke(self, token: StoredApiToken, *, actor: str) -> bool:
        """False where it was revoked already. Raises StoreUnavailable, HistoryUnavailable."""
        action = _action(actor, "api_token.revoked", token, {"id": token.id})
        await self._copy.delete(Registry.API_TOKEN, token.id, action)
        return await self._store.revoke(token)

    def _names(self, stored: Iterable[StoredApiToken]) -> frozenset[tuple[str, str]]:
        """Those that are taken, each with its workspace."""
        now = time.time()
        live = ((token.workspace, token.name) for token in stored if token.is_live(now))
        return frozenset((*self._configured.values(), *live))

    async def _brought(
        self, token: StoredApiToken, sha256: str, active: set[str], names: frozenset[tuple[str, str]]
    ) -> Imported:
        if sha256 in self._configured:
            return Imported.KNOWN
        if known := await self._store.find(sha256):
            return Imported.KNOWN if known.id in active else Imported.REVOKED
        return Imported.NAME_TAKEN if (token.workspace, token.name) in names else Imported.CREATED

    async def _create(self, token: StoredApiToken, sha256: str, *, actor: str, **more: object) -> None:
        details = {
            "id": token.id,
            "role": token.role,
            "user": token.user,
            "agent": token.agent,
            "expires_at": token.expires_at,
            **more,
        }
        await self._copy.put(token_copy(token, sha256), _action(actor, "api_token.created", token, details))
        await self._store.add(token, sha256)


def _action(actor: str, action: str, token: StoredApiToken, details: Mapping[str, object]) -> Action:
    return Action(token.workspace, actor, action, f"api_token:{token.name}", details)
