"""The ledger on Redis: the port `core.ports.Ledger`, one script a call."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from govmiddleware.core.limits import Counter, Hold
from govmiddleware.core.ports import (
    NO_OUTPUT,
    AcquireOutcome,
    ApiTokenRevoked,
    Granted,
    JournalFull,
    LimitsExceeded,
    Output,
    ReservationGone,
    Settled,
    Step,
)
from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger import scripts
from govmiddleware.ledger.connection import PROBE_SECONDS, Client, ask_each_node, store_call
from govmiddleware.ledger.directory import read_directory
from govmiddleware.ledger.epochs import Epochs
from govmiddleware.ledger.holds import HoldArguments, read_states
from govmiddleware.ledger.keys import AUDITOR, NOTHING, SWEEPER, WORKSPACES, WorkspaceKeys
from govmiddleware.ledger.reservation import read_reservation

_FIRST_COUNTER = 6
"""Where in the KEYS of acquire the counters begin."""

_TOMBSTONE_MS = 15 * 60 * 1000
"""How long after its lease a cancelled acquire may still arrive and must be refused."""


class RedisLedger:
    """The counters of all workspaces.

    Args:
        redis: a client that never retries (`connection.connect`).
        epochs: without them every workspace is taken for a new one.
        journal_max_records: of a workspace that are not in SQL yet; from there on nothing is admitted.
        clock: a test's clock in Unix milliseconds; without it the store's own TIME decides.
    """

    def __init__(
        self,
        redis: Client,
        *,
        epochs: Epochs | None = None,
        journal_max_records: int = 5_000_000,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._redis = redis
        self._epochs = epochs or Epochs(redis)
        self._journal_max_records = journal_max_records
        self._clock = clock
        self._keys: dict[str, WorkspaceKeys] = {}
        self._hold_arguments = HoldArguments()

    async def acquire(
        self,
        workspace: str,
        reservation_id: str,
        holds: Sequence[Hold],
        *,
        lease_ms: int,
        expired_record: bytes,
        step: Step = Step.OPEN,
        held: Sequence[Counter] = (),
        output: Output = NO_OUTPUT,
        drop_shadows: bool = False,
        api_token_id: str | None = None,
    ) -> AcquireOutcome:
        keys = self._keys.get(workspace) or await self._workspace(workspace)
        prefix, counters = keys.counter_prefix, []
        for hold in holds:
            counters.append(prefix + hold.counter.name)
        first_raise = _FIRST_COUNTER + len(counters)
        for hold in holds:
            for each in hold.raises:
                counters.append(prefix + each.counter.name)
        for counter in held:
            if (key := prefix + counter.name) not in counters:
                counters.append(key)
        clock = self._clock
        now = clock() if clock else time.time_ns() // 1_000_000
        for _ in range(3):
            answer = await scripts.acquire.merged(
                self._redis,
                [
                    keys.state,
                    keys.reservation_prefix + reservation_id,
                    keys.open,
                    keys.active_tokens,
                    keys.journal,
                    *counters,
                ],
                [
                    clock() if clock else "",
                    reservation_id,
                    step,
                    lease_ms,
                    api_token_id or "",
                    self._journal_max_records,
                    expired_record,
                    output.most,
                    output.least,
                    int(drop_shadows),
                    self._hold_arguments.encode(holds, now, first_raise),
                ],
            )
            match answer[0]:
                case b"lost":
                    await self._epochs.begin(workspace)
                case b"stale":
                    now = int(answer[1])
                case _:
                    return _outcome(answer, holds)
        raise late()

    async def settle(
        self,
        workspace: str,
        reservation_id: str,
        counters: Sequence[Counter],
        amounts: Mapping[str, int],
        record: bytes | None,
        *,
        corrects: bool = False,
        tombstone_ms: int = 0,
    ) -> Settled:
        """`tombstone_ms`: of `cancel`, for how long to refuse an id that is unknown."""
        keys = self._keys.get(workspace) or await self._workspace(workspace)
        script_keys = [keys.state, keys.reservation_prefix + reservation_id, keys.open, keys.journal]
        arguments: list[scripts.Argument] = [
            self._clock() if self._clock else "",
            reservation_id,
            record or b"",
            tombstone_ms,
            int(corrects),
        ]
        for counter in counters:
            name = counter.name
            script_keys.append(keys.counter_prefix + name)
            arguments.append(amounts.get(name, 0))
        answer = await scripts.settle.merged(self._redis, script_keys, arguments)
        match answer:
            case -3:
                return Settled.SWEPT
            case -2:
                raise StoreUnavailable(
                    f"reservation {reservation_id} holds counters that its owner does not know"
                )
            case -1:
                return Settled.NOT_OPEN
            case _:
                missing = len(counters) - answer  # of an override nothing may have been taken
                is_whole = not missing or missing == sum(counter.is_override for counter in counters)
                return Settled.WHOLE if is_whole else Settled.IN_PART

    async def cancel(
        self, workspace: str, reservation_id: str, counters: Sequence[Counter], *, lease_ms: int
    ) -> None:
        tombstone_ms = lease_ms + _TOMBSTONE_MS
        await self.settle(workspace, reservation_id, counters, {}, None, tombstone_ms=tombstone_ms)

    async def renew(self, workspace: str, reservation_id: str, lease_ms: int) -> bool:
        keys = await self._workspace(workspace)
        answer = await scripts.renew.merged(
            self._redis, [keys.state, keys.open], [self._test_clock(), reservation_id, lease_ms]
        )
        return bool(answer)

    async def sweep(self, workspace: str, reservation_id: str) -> bool:
        keys = await self._workspace(workspace)
        reservation = keys.reservation(reservation_id)
        async with store_call():
            stored = read_reservation(await cast("Any", self._redis.get(reservation)))
            answer = await scripts.sweep(
                self._redis,
                [keys.state, reservation, keys.open, keys.journal, *stored.holds],
                [self._test_clock(), reservation_id],
            )
        return bool(answer == 1)

    async def expired(self, workspace: str, count: int) -> list[str]:
        """The ids of up to `count` reservations whose lease has run out, the oldest first."""
        keys = await self._workspace(workspace)
        async with store_call():
            ids = await scripts.expired(self._redis, [keys.state, keys.open], [self._test_clock(), count])
        return [reservation_id.decode() for reservation_id in ids]

    async def take_sweep_turn(self, turn_ms: int) -> bool:
        """Whether the walk over all workspaces is ours. The workspaces that this process knows are written
        into the directory again first, for a store that came back empty: others may not know them."""
        async with store_call():
            if self._keys:
                await self._redis.sadd(WORKSPACES, *self._keys)
            return await self._take_turn(SWEEPER, turn_ms)

    async def take_audit_turn(self, turn_ms: int) -> bool:
        async with store_call():
            return await self._take_turn(AUDITOR, turn_ms)

    async def workspaces(self) -> list[str]:
        """The directory."""
        async with store_call():
            return await read_directory(self._redis)

    async def takes_writes(self) -> bool:
        try:
            await self.try_write()
        except StoreUnavailable:
            return False
        return True

    async def try_write(self) -> None:
        """Raises StoreUnavailable, with the cause, where the store takes no writes. One that is out of memory takes
        those that ask for none."""
        async with store_call():
            await self._redis.set(NOTHING, "", xx=True)  # which there is not: it changes nothing

    async def run_id(self) -> str:
        async with store_call(PROBE_SECONDS):
            servers = await ask_each_node(self._redis, "INFO", "server")
        runs = (info.get("run_id", "") for info in servers)  # some hosted stores do not say
        return " ".join(sorted(map(str, runs)))

    async def ping(self, patience: float | None = None) -> None:
        """Raises StoreUnavailable."""
        async with store_call(patience):
            await self._redis.ping()

    async def journal_is_full(self) -> bool:
        """Whether any workspace has as many records as it may that are not in SQL yet."""
        for workspace in await self.workspaces():
            keys = WorkspaceKeys(workspace)
            async with store_call():
                records = await self._redis.xlen(keys.journal)
                if records >= self._journal_max_records:
                    records -= int(await cast("Any", self._redis.hget(keys.state, "drained")) or 0)
                if records >= self._journal_max_records:
                    return True
        return False

    async def _take_turn(self, key: str, turn_ms: int) -> bool:
        me = f"{socket.gethostname()}:{os.getpid()}"  # for people who look
        return bool(await self._redis.set(key, me, nx=True, px=turn_ms))

    async def _workspace(self, workspace: str) -> WorkspaceKeys:
        """Its keys; before the first one is written, its name is in the directory."""
        keys = self._keys.get(workspace)
        if keys is None:
            async with store_call():
                await self._redis.sadd(WORKSPACES, workspace)
            keys = self._keys[workspace] = WorkspaceKeys(workspace)
        return keys

    def _test_clock(self) -> str | int:
        return self._clock() if self._clock else ""


def late() -> StoreUnavailable:
    return StoreUnavailable("the store's clock left the calendar window twice in a row")


def _outcome(answer: list[Any], holds: Sequence[Hold]) -> AcquireOutcome:
    match answer[0]:
        case b"granted":
            return Granted(read_states(answer[4:], len(holds)), answer[1], answer[2], _ids(answer[3]))
        case b"exceeded":
            return LimitsExceeded(read_states(answer[4:], len(holds)), _ids(answer[3]))
        case b"revoked":
            return ApiTokenRevoked()
        case b"full":
            return JournalFull()
        case b"gone":
            return ReservationGone()
        case other:
            raise StoreUnavailable(f"acquire answered {other!r}")


def _ids(joined: bytes) -> tuple[str, ...]:
    return tuple(joined.decode().split()) if joined else ()
