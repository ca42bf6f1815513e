"""The overrides in force, as every worker knows them: what people approved, projected into the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from govmiddleware.core.limits import Hold, Limit, Mode, Raise
from govmiddleware.core.registries import RaiseStore
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE

logger = logging.getLogger("govmiddleware.raises")

_decoder = msgspec.json.Decoder(Raise)

_Raised = tuple[str, str, str]
"""The workspace of a limit's counter, the limit's name, and the value of its scope."""


class Raises:
    """Read anew every two seconds, as the limits are. What it knows may be older than the truth: whether an override
    is in force yet, and what is left of it, the ledger decides."""

    def __init__(self, store: RaiseStore) -> None:
        self._store = store
        self._written: Mapping[str, bytes] = {}
        self._known: dict[str, Raise] = {}
        self._in_force: dict[_Raised, tuple[Raise, ...]] = {}
        self._refreshing = asyncio.Lock()

    def __contains__(self, override_id: str) -> bool:
        return override_id in self._known

    def applied(self, holds: list[Hold], workspace: str) -> list[Hold]:
        """The holds of a call of this workspace, with the overrides of their enforced limits."""
        if not self._in_force:
            return holds
        return [replace(hold, raises=self._raises_for(hold, workspace)) for hold in holds]

    async def refresh(self) -> None:
        """Read the store again. Raises StoreUnavailable; what was known stays so then."""
        async with self._refreshing:  # or an answer that is late would bring back what was before
            written = await self._store.read()
            if written != self._written:
                self._load(written)

    async def ids(self) -> set[str]:
        """Of all in the store, those that cannot be read too. Raises StoreUnavailable."""
        await self.refresh()
        return set(self._written)

    async def put(self, added: Raise) -> None:
        """Raises StoreUnavailable."""
        await self._store.put(added.id, msgspec.json.encode(added))
        await self.refresh()

    async def remove(self, override_id: str) -> None:
        """Raises StoreUnavailable."""
        await self._store.delete(override_id)
        await self.refresh()

    def _raises_for(self, hold: Hold, workspace: str) -> tuple[Raise, ...]:
        counter = hold.counter
        place = DEPLOYMENT_WORKSPACE if counter.is_deployment_wide else workspace
        return tuple(
            each
            for limit in hold.limits
            if limit.mode is Mode.ENFORCED
            for each in self._in_force.get((place, limit.name, counter.value), ())
            if _is_of(each, limit)
        )

    def _load(self, written: Mapping[str, bytes]) -> None:
        known: dict[str, Raise] = {}
        for override_id, raw in written.items():
            try:
                known[override_id] = _decoder.decode(raw)
            except msgspec.MsgspecError as error:
                if self._written.get(override_id) != raw:
                    logger.error("override %s cannot be read and raises nothing: %s", override_id, error)
        in_force: dict[_Raised, list[Raise]] = {}
        for each in sorted(known.values(), key=lambda each: (each.until_ms, each.id)):
            in_force.setdefault((each.workspace, each.limit, each.value), []).append(each)
        self._in_force = {place: tuple(found) for place, found in in_force.items()}
        self._known, self._written = known, written


def _is_of(each: Raise, limit: Limit) -> bool:
    """Whether it was approved for this limit, and not for one of its name that counted something else."""
    return (each.scope, each.meter) == (limit.scope, limit.meter)
