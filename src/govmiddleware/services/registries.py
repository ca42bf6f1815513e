"""The registries of the store, and their copy in SQL, which restores them where the store was lost."""

from __future__ import annotations

import msgspec

from govmiddleware.core.audit_log import Action, AuditLog
from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal
from govmiddleware.core.registries import (
    ApiTokenStore,
    Copied,
    LimitStore,
    Registry,
    RegistryCopy,
    StoredApiToken,
)
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE

COPY_SECONDS = 5.0
"""How often a worker looks whether the copy is complete, until it is."""


class _CopiedToken(msgspec.Struct):
    token: StoredApiToken
    sha256: str


class RestoredRegistries(msgspec.Struct, frozen=True):
    """What the store lacked: names of limits, and `WORKSPACE/NAME` of API tokens."""

    limits: tuple[str, ...] = ()
    api_tokens: tuple[str, ...] = ()


class Registries:
    def __init__(
        self,
        copy: RegistryCopy,
        limits: LimitStore,
        api_tokens: ApiTokenStore,
        history: History,
        journal: Journal,
        audit_log: AuditLog,
    ) -> None:
        self._copy = copy
        self._limits = limits
        self._api_tokens = api_tokens
        self._history = history
        self._journal = journal
        self._audit_log = audit_log
        self._is_complete = False

    async def complete_copy(self) -> None:
        """Once in the life of a journal: copy what the store has from before there was a copy. Raises StoreUnavailable
        and HistoryUnavailable."""
        if not self._is_complete and not await self._copy.is_complete():
            tokens = [
                token_copy(token, sha256) for sha256, token in (await self._api_tokens.active()).items()
            ]
            limits = [(Registry.LIMIT, *limit) for limit in (await self._limits.read()).items()]
            await self._copy.complete([*tokens, *limits])
        self._is_complete = True

    async def restore(self, *, actor: str) -> RestoredRegistries:
        """Give a store that was lost what it lacks of the copy; what it has stays as it is. Before the epochs, or
        calls would pass under no limits.

        Raises StoreUnavailable and HistoryUnavailable.
        """
        if not await self._is_lost():
            return RestoredRegistries()
        limits = await self._copy.read(Registry.LIMIT)
        tokens = [
            msgspec.json.decode(copied, type=_CopiedToken)
            for copied in (await self._copy.read(Registry.API_TOKEN)).values()
        ]
        if not limits and not tokens:
            return RestoredRegistries()
        details = {"limits": sorted(limits), "api_tokens": [copied.token.id for copied in tokens]}
        await self._audit_log.append(
            Action(DEPLOYMENT_WORKSPACE, actor, "registries.restored", "store", details)
        )
        return RestoredRegistries(
            tuple([name for name, limit in limits.items() if await self._limits.restore(name, limit)]),
            tuple(
                [
                    f"{copied.token.workspace}/{copied.token.name}"
                    for copied in tokens
                    if await self._api_tokens.restore(copied.token, copied.sha256)
                ]
            ),
        )

    async def _is_lost(self) -> bool:
        """Of any workspace: a cluster may lose some alone."""
        for workspace in await self._history.workspaces():
            snapshot = await self._journal.snapshot(workspace, [])
            if snapshot.epoch is None and await self._history.epoch(workspace) is not None:
                return True
        return False


def token_copy(token: StoredApiToken, sha256: str) -> Copied:
    return Registry.API_TOKEN, token.id, msgspec.json.encode(_CopiedToken(token, sha256))
