"""Where one limit stands now, for one value of its scope."""

from __future__ import annotations

import time

import msgspec

from govmiddleware.core.adjustments import Adjustments, Look
from govmiddleware.core.limits import Counter, Limit, Mode
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE, is_deployment_wide
from govmiddleware.services.limit_states import resets_at
from govmiddleware.services.limits import LimitRegistry
from govmiddleware.services.records import amount_shown


class Standing(msgspec.Struct, frozen=True):
    """Amounts in the meter's unit; `resets_at` in RFC 3339, None where nothing resets it."""

    limit: Limit
    used: int
    reserved: int
    resets_at: str | None

    def shown(self) -> dict[str, object]:
        meter, hard = self.limit.meter, self.limit.hard
        return {
            "window": self.limit.window.name,
            "used": amount_shown(meter, self.used),
            "reserved": amount_shown(meter, self.reserved),
            "maximum": amount_shown(meter, hard),
            "remaining": amount_shown(meter, max(0, hard - self.used - self.reserved)),
            "percent": (self.used + self.reserved) * 100 // hard if hard else 100,
            "resets_at": self.resets_at,
        }


class Standings:
    """Looks limits up, for the pages of refusals and overrides."""

    def __init__(self, adjustments: Adjustments, limits: LimitRegistry) -> None:
        self._adjustments = adjustments
        self._limits = limits

    async def find(self, workspace: str, name: str, value: str) -> Standing | None:
        """None where the workspace has no limit of this name any more. Raises StoreUnavailable."""
        registered = await self._limits.find(name)
        if registered is None or registered.limit.workspace not in (None, workspace):
            return None
        limit = registered.limit
        place = DEPLOYMENT_WORKSPACE if is_deployment_wide(limit.scope) else workspace
        counter = Counter(limit.scope, limit.meter, limit.window, value, limit.mode is Mode.DRY_RUN)
        seen = await self._adjustments.look(place, Look((counter,)))
        resets = resets_at(limit.window, time.time_ns() // 1_000_000)
        return Standing(limit, seen.used[0] or 0, seen.reserved[0], resets)
