"""The ledger on Redis: the port `core.ports.Ledger`, one script a call."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from govmiddleware.core.limits import Counter, Hold, Meter
from govmiddleware.core.ports import (
    NO_OUTPUT,
    AcquireOutcome,
    ApiTokenRevoked,
    CounterState,
    Crossing,
    Granted,
    JournalFull,
    LimitsExceeded,
    Output,
    ReservationGone,
    Settled,
    Step,
)
from govmiddleware.core.windows import Lifetime, Now, SlidingWindow
from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger import scripts
from govmiddleware.ledger.connection import PROBE_SECONDS, Client, ask_each_node, store_call
from govmiddleware.ledger.directory import read_directory
from govmiddleware.ledger.epochs import Epochs
from govmiddleware.ledger.keys import AUDITOR, NOTHING, SWEEPER, WORKSPACES, WorkspaceKeys

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
        keys = await self._workspace(workspace)
        counters = [hold.counter for hold in holds]
        first_raise = _FIRST_COUNTER + len(counters)
        counters += [each.counter for hold in holds for each in hold.raises]
        counters += [counter for counter in held if counter not in counters]
        now = self._now_ms()
        for _ in range(3):
            async with store_call():
                answer = await scripts.acquire(
                    self._redis,
                    [
                        keys.state,
                        keys.reservation(reservation_id),
                        keys.open,
                        keys.active_tokens,
                        keys.journal,
                    ]
                    + [keys.counter(counter.name) for counter in counters],
                    [
                        self._test_clock(),
                        reservation_id,
                        step.value,
                        lease_ms,
                        api_token_id or "",
                        self._journal_max_records,
                        expired_record,
                        output.most,
                        output.least,
                        int(drop_shadows),
                        msgspec.msgpack.encode(_holds_arguments(holds, now, first_raise)),
                    ],
                )
            match answer[0]:
                case b"lost":
                    await self._epochs.begin(workspace)
                case b"stale":
                    now = int(answer[1])
                case _:
                    return _outcome(answer)
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
    ) -> Settled:
        return await self._settle(
            workspace, reservation_id, counters, amounts, record or b"", corrects=corrects
        )

    async def cancel(
        self, workspace: str, reservation_id: str, counters: Sequence[Counter], *, lease_ms: int
    ) -> None:
        tombstone_ms = lease_ms + _TOMBSTONE_MS
        await self._settle(workspace, reservation_id, counters, {}, b"", tombstone_ms=tombstone_ms)

    async def _settle(
        self,
        workspace: str,
        reservation_id: str,
        counters: Sequence[Counter],
        amounts: Mapping[str, int],
        record: bytes,
        *,
        tombstone_ms: int = 0,
        corrects: bool = False,
    ) -> Settled:
        keys = await self._workspace(workspace)
        names = [counter.name for counter in counters]
        async with store_call():
            answer = await scripts.settle(
                self._redis,
                [keys.state, keys.reservation(reservation_id), keys.open, keys.journal]
                + [keys.counter(name) for name in names],
                [self._test_clock(), reservation_id, record, tombstone_ms, int(corrects)]
                + [amounts.get(name, 0) for name in names],
            )
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
                limits = sum(not counter.is_override for counter in counters)
                return Settled.WHOLE if answer == limits else Settled.IN_PART

    async def renew(self, workspace: str, reservation_id: str, lease_ms: int) -> bool:
        keys = await self._workspace(workspace)
        async with store_call():
            answer = await scripts.renew(
                self._redis, [keys.state, keys.open], [self._test_clock(), reservation_id, lease_ms]
            )
        return bool(answer)

    async def sweep(self, workspace: str, reservation_id: str) -> bool:
        keys = await self._workspace(workspace)
        reservation = keys.reservation(reservation_id)
        async with store_call():
            fields = cast("list[bytes]", await self._redis.hkeys(reservation))
            counters = [name for name in map(bytes.decode, fields) if name.startswith(keys.counter_prefix)]
            answer = await scripts.sweep(
                self._redis,
                [keys.state, reservation, keys.open, keys.journal, *counters],
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

    def _now_ms(self) -> int:
        return self._clock() if self._clock else time.time_ns() // 1_000_000


def late() -> StoreUnavailable:
    return StoreUnavailable("the store's clock left the calendar window twice in a row")


def _holds_arguments(holds: Sequence[Hold], now_ms: int, first_raise: int) -> list[tuple[object, ...]]:
    """What `acquire.lua` is told of all new holds; `first_raise`: where in KEYS the overrides' counters begin."""
    arguments = []
    for hold in holds:
        arguments.append(_hold_arguments(hold, now_ms, first_raise))
        first_raise += len(hold.raises)
    return arguments


def _hold_arguments(hold: Hold, now_ms: int, first_raise: int) -> tuple[object, ...]:
    kind, window = window_arguments(hold.counter, now_ms)
    check = "o" if hold.hard is None else "d" if hold.counter.is_shadow else "e"
    arguments = (kind, check, hold.amount.fixed, hold.amount.per_token)
    if not hold.raises:
        return (*arguments, hold.hard, *window, *_watch_arguments(hold))
    raised = {each.limit for each in hold.raises}
    others = replace(hold, limits=tuple(limit for limit in hold.limits if limit.name not in raised))
    overrides = _override_arguments(hold, first_raise)
    return (*arguments, others.hard, *window, *_watch_arguments(hold), overrides)


def _override_arguments(hold: Hold, first_raise: int) -> list[tuple[object, ...]]:
    """Of each limit with overrides its name, hard value, and the overrides."""
    limits = {limit.name: limit for limit in hold.limits}
    by_limit: dict[str, list[object]] = {}
    for key, each in enumerate(hold.raises, first_raise):
        limit = limits[each.limit]
        found = by_limit.setdefault(limit.name, [limit.name, limit.hard])
        found.append((key, each.adds_to(limit), each.until_ms, each.is_used_up))
    return [tuple(found) for found in by_limit.values()]


def window_arguments(counter: Counter, now_ms: int) -> tuple[str, tuple[int | None, int | None, int | None]]:
    """The kind of a counter, and the a, b, c of `locate` in `_windows.lua`."""
    match counter.window:
        case SlidingWindow() as window:
            return "s", (window.bucket_ms, window.bucket_count, None)
        case Now():
            return "n", (None, None, None)
        case Lifetime():
            bounds: tuple[int | None, int | None, int | None] = (0, None, None)
        case window:
            bounds = window.bounds(now_ms)
    return "w" if counter.meter is Meter.WALL_CLOCK else "c", bounds


def _watch_arguments(hold: Hold) -> tuple[int, str]:
    """From where on to look for crossings, and the limits to look at."""
    soft = {limit.name: limit.hard + 1 if limit.soft is None else limit.soft for limit in hold.limits}
    watch = " ".join(f"{limit.name} {soft[limit.name]} {limit.hard}" for limit in hold.limits)
    return min(min(soft[limit.name], limit.hard) for limit in hold.limits), watch


def _outcome(answer: list[bytes]) -> AcquireOutcome:
    match answer[0]:
        case b"granted":
            return Granted(
                _states(answer[4:]), int(answer[1]), int(answer[2]), tuple(answer[3].decode().split())
            )
        case b"exceeded":
            return LimitsExceeded(_states(answer[4:]), tuple(answer[3].decode().split()))
        case b"revoked":
            return ApiTokenRevoked()
        case b"full":
            return JournalFull()
        case b"gone":
            return ReservationGone()
        case other:
            raise StoreUnavailable(f"acquire answered {other!r}")


def _states(answers: list[bytes]) -> tuple[CounterState, ...]:
    return tuple(_state(*answer.split()) for answer in answers)


def _state(consumed: bytes, reserved: bytes, asked: bytes, wait: bytes, *more: bytes) -> CounterState:
    told = [each.decode().split(":") for each in more]
    return CounterState(
        int(consumed),
        int(reserved),
        int(asked),
        int(wait) if int(wait) > 0 else None,
        tuple(_crossing(*each) for each in told if each[0] != "o"),
        tuple(int(each[1]) for each in told if each[0] == "o"),
    )


def _crossing(past: str, limit: str, window: str) -> Crossing:
    return Crossing(limit, past == "h", window)
