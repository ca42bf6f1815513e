"""The limits in force: those of the file, and those of the store, which can change while calls run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from govmiddleware.core.audit_log import Action
from govmiddleware.core.limits import Limit
from govmiddleware.core.refusals import LimitIsConfigured, Unavailable
from govmiddleware.core.registries import LimitStore, Registry, RegistryCopy
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.errors import ConfigurationError

logger = logging.getLogger("govmiddleware.limits")

REFRESH_SECONDS = 2.0
"""How long after a change every worker knows of it."""

Fields = Mapping[str, object]
"""A limit as it is written, in the names of the file; of types that JSON has."""

ReadLimit = Callable[[Fields], tuple[Limit, Fields]]
"""Checks what is written; gives the limit and all its fields. Raises ConfigurationError."""


class RegisteredLimit(msgspec.Struct, frozen=True):
    """A limit in force, as it is written, and where."""

    limit: Limit
    fields: Fields
    source: Literal["file", "store"]


class LimitRegistry:
    """All limits in force. It is iterated anew for each call, so that each sees what then is in force.

    A limit of the file wins over a stored one of the same name. A stored one that cannot be read, as a newer
    version wrote it, does not bind; `problems` tells of it.

    Args:
        configured: the limits of the file.
        read: how stored ones are read.
        copy: has each change, as the audit log does, before it is made.
    """

    def __init__(
        self,
        store: LimitStore,
        configured: Iterable[tuple[Limit, Fields]],
        read: ReadLimit,
        *,
        copy: RegistryCopy,
    ) -> None:
        self._store = store
        self._read = read
        self._copy = copy
        self._configured = {
            limit.name: RegisteredLimit(limit, fields, "file") for limit, fields in configured
        }
        self._written: Mapping[str, bytes] | None = None
        """What the store had when it was last read; None: it never was."""
        self._unreadable: dict[str, ConfigurationError | msgspec.MsgspecError] = {}
        self._registered = dict(self._configured)
        self._in_force: tuple[Limit, ...] = ()
        self._refreshing = asyncio.Lock()

    def __iter__(self) -> Iterator[Limit]:
        """Raises Unavailable until the store was read: nobody knows before which limits there are."""
        if self._written is None:
            raise Unavailable("The limits could not be read from the store yet.", code="store_unavailable")
        return iter(self._in_force)

    async def refresh(self) -> None:
        """Read the store again. Raises StoreUnavailable; what was in force stays so then."""
        async with self._refreshing:  # or an answer that is late would bring back what was before
            written = await self._store.read()
            if written != self._written:
                self._load(written)

    async def all(self) -> list[RegisteredLimit]:
        """As they are now: those of the file in its order, then the stored ones by name. Raises
        StoreUnavailable."""
        await self.refresh()
        return list(self._registered.values())

    async def find(self, name: str) -> RegisteredLimit | None:
        """As it is now. Raises StoreUnavailable."""
        await self.refresh()
        return self._registered.get(name)

    def is_unreadable(self, name: str) -> bool:
        """Whether the store has a limit of this name that cannot be read."""
        return name in self._unreadable

    async def put(self, fields: Fields, *, actor: str = "code") -> tuple[RegisteredLimit, bool]:
        """Create or replace a stored limit; returns it, and whether there was none of its name.

        Args:
            actor: as the audit log has it.

        Raises ConfigurationError for one that cannot be, LimitIsConfigured, StoreUnavailable, HistoryUnavailable.
        """
        limit, fields = self._read(fields)
        self._check_stored(limit.name)
        await self.refresh()  # a store that has lost its limits takes none before it is rebuilt
        written = msgspec.json.encode(fields)
        await self._copy.put(
            (Registry.LIMIT, limit.name, written), _action(actor, "limit.set", limit.name, fields)
        )
        created = await self._store.put(limit.name, written)
        logger.info("limit %s was %s: %s", limit.name, "created" if created else "replaced", fields)
        await self.refresh()
        return RegisteredLimit(limit, fields, "store"), created

    async def delete(self, name: str, *, actor: str = "code") -> bool:
        """Delete a stored limit; False where there is none. What it counted is kept, for a limit that counts
        the same later. Raises LimitIsConfigured, StoreUnavailable, HistoryUnavailable."""
        self._check_stored(name)
        found = await self.find(name)
        is_stored = found is not None or self.is_unreadable(name)
        if not is_stored and name not in await self._copy.read(Registry.LIMIT):
            return False
        fields = found.fields if found else {}
        await self._copy.delete(Registry.LIMIT, name, _action(actor, "limit.deleted", name, fields))
        if await self._store.delete(name):
            logger.info("limit %s was deleted", name)
            await self.refresh()
        return True

    def problems(self) -> list[str]:
        """What keeps stored limits from binding, in words."""
        if self._written is None:
            return ["the limits could not be read from the store yet"]
        return [
            f"limit {name} of the store does not bind: {error}" for name, error in self._unreadable.items()
        ]

    def _check_stored(self, name: str) -> None:
        if name in self._configured:
            raise LimitIsConfigured(f"Limit {name} stands in the configuration file: change it there.")

    def _load(self, written: Mapping[str, bytes]) -> None:
        before = self._written or {}
        registered, unreadable = dict(self._configured), {}
        for name, raw in sorted(written.items()):
            is_new = before.get(name) != raw
            if name in registered:
                if is_new:
                    logger.warning("limit %s of the store does not bind: the file has one of this name", name)
                continue
            try:
                fields = msgspec.json.decode(raw, type=dict[str, object])
                registered[name] = RegisteredLimit(*self._read({**fields, "name": name}), "store")
            except (ConfigurationError, msgspec.MsgspecError) as error:
                unreadable[name] = error
                if is_new:
                    logger.error("limit %s of the store cannot be read and does not bind: %s", name, error)
        self._registered, self._unreadable = registered, unreadable
        self._in_force = tuple(each.limit for each in registered.values())
        self._written = written


def _action(actor: str, action: str, name: str, fields: Fields) -> Action:
    workspace = str(fields.get("workspace") or DEPLOYMENT_WORKSPACE)
    return Action(workspace, actor, action, f"limit:{name}", fields)
