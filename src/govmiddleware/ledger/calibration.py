"""What calibrators have learned on Redis: one hash a workspace. The port `core.calibration.CalibrationStore`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import cast

from govmiddleware.ledger import scripts
from govmiddleware.ledger.connection import PROBE_SECONDS, Client, store_call
from govmiddleware.ledger.keys import WorkspaceKeys

_LIVES_MS = 30 * 24 * 3_600_000


class RedisCalibration:
    """Each release learns for itself, for it may estimate otherwise than the one before."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._release = version("govmiddleware")

    async def read(self, workspace: str) -> Mapping[str, bytes]:
        async with store_call(PROBE_SECONDS):
            found = cast("dict[bytes, bytes]", await self._redis.hgetall(self._key(workspace)))
        return {field.decode(errors="replace"): value for field, value in found.items()}

    async def replace(
        self, workspace: str, seen: Mapping[str, bytes | None], changed: Mapping[str, bytes]
    ) -> bool:
        fields = [each for field, value in changed.items() for each in (field, seen[field] or b"", value)]
        async with store_call(PROBE_SECONDS):
            replaced = await scripts.replace_fields(self._redis, [self._key(workspace)], [_LIVES_MS, *fields])
        return bool(replaced)

    def _key(self, workspace: str) -> str:
        return WorkspaceKeys(workspace).ratios(self._release)
