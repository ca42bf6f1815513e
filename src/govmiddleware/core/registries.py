"""Ports of the registries in the store: what people put there by command or API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from govmiddleware.core.audit_log import Action


class StoredApiToken(msgspec.Struct, frozen=True):
    """An API token of the store. Times are Unix seconds; the secret itself is nowhere."""

    id: str
    name: str
    workspace: str
    role: str
    created_at: int
    expires_at: int | None = None
    user: str | None = None
    agent: str | None = None
    tags: Mapping[str, str] | None = None
    active: bool = True

    def is_live(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.active and (self.expires_at is None or self.expires_at > now)


class ApiTokenStore(Protocol):
    """The registry of API tokens. Every call raises StoreUnavailable: those that read, StoreLost where the store may
    have lost them."""

    async def find(self, sha256: str) -> StoredApiToken | None:
        """By the hash of its secret; revoked ones too, their `active` not looked up."""
        ...

    async def add(self, token: StoredApiToken, sha256: str) -> None: ...

    async def replace(self, token: StoredApiToken, sha256: str) -> None:
        """Change what is known of one; whether it is active stays as it is."""
        ...

    async def restore(self, token: StoredApiToken, sha256: str) -> bool:
        """Add what the store lacks of an active token; False where it lacks nothing. One that it knows to be revoked
        stays so."""
        ...

    async def active(self) -> Mapping[str, StoredApiToken]:
        """By the hash of its secret. Walks all keys of the store."""
        ...

    async def list(self) -> list[StoredApiToken]:
        """Of all workspaces, each with its `active`."""
        ...

    async def is_active(self, workspace: str, token_id: str) -> bool:
        """Whether it is known and not revoked."""
        ...

    async def revoke(self, token: StoredApiToken) -> bool:
        """False where it was revoked already."""
        ...


class LimitStore(Protocol):
    """The limits that do not stand in the file: by name, each as JSON. Every call raises StoreUnavailable."""

    async def read(self) -> Mapping[str, bytes]:
        """Raises StoreLost where the store may have lost them."""
        ...

    async def put(self, name: str, limit: bytes) -> bool:
        """Create or replace; True where there was none of this name."""
        ...

    async def restore(self, name: str, limit: bytes) -> bool:
        """Create one; False where there is one of this name, which stays as it is."""
        ...

    async def delete(self, name: str) -> bool:
        """False where there was none."""
        ...


class Registry(StrEnum):
    """What people put into the store by command or API."""

    LIMIT = "limit"
    API_TOKEN = "api_token"


Copied = tuple[Registry, str, bytes]
"""Registry, the limit's name or the API token's id, and what it is, as JSON."""


class RegistryCopy(Protocol):
    """The copy of the registries in SQL, for the day when the store has lost them: what is in force, the store says.
    Every call raises HistoryUnavailable.

    A change is in the copy, and in the audit log, before it is made in the store. So what the store then did not take
    is restored as people asked for it, and what they deleted or revoked does not come back.
    """

    async def put(self, copied: Copied, action: Action) -> None:
        """Create or replace, in one transaction with the audit log's entry."""
        ...

    async def delete(self, registry: Registry, key: str, action: Action) -> None:
        """In one transaction with the audit log's entry."""
        ...

    async def read(self, registry: Registry) -> Mapping[str, bytes]: ...

    async def is_complete(self) -> bool:
        """Whether it has what was in the store before there was a copy."""
        ...

    async def complete(self, copied: Sequence[Copied]) -> None:
        """Add those that it does not have, and be complete."""
        ...


class RaiseStore(Protocol):
    """The overrides in force: by id, each as JSON. Every call raises StoreUnavailable."""

    async def read(self) -> Mapping[str, bytes]: ...

    async def put(self, override_id: str, raised: bytes) -> None: ...

    async def delete(self, override_id: str) -> None: ...

    async def take_turn(self, turn_ms: int) -> bool:
        """Whether it is the caller who looks after all overrides: of all that ask, one gets it in `turn_ms`."""
        ...
