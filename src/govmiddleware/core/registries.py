"""Ports of the registries in the store: what people put there by command or API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredApiToken:
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


class ApiTokenStore(Protocol):
    """The registry of API tokens. Every call raises StoreUnavailable."""

    async def find(self, sha256: str) -> StoredApiToken | None:
        """By the hash of its secret; revoked ones too, their `active` not looked up."""
        ...

    async def add(self, token: StoredApiToken, sha256: str) -> None: ...

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

    async def read(self) -> Mapping[str, bytes]: ...

    async def put(self, name: str, limit: bytes) -> bool:
        """Create or replace; True where there was none of this name."""
        ...

    async def delete(self, name: str) -> bool:
        """False where there was none."""
        ...


class RaiseStore(Protocol):
    """The overrides in force: by id, each as JSON. Every call raises StoreUnavailable."""

    async def read(self) -> Mapping[str, bytes]: ...

    async def put(self, override_id: str, raised: bytes) -> None: ...

    async def delete(self, override_id: str) -> None: ...

    async def take_turn(self, turn_ms: int) -> bool:
        """Whether it is the caller who looks after all overrides: of all that ask, one gets it in `turn_ms`."""
        ...
