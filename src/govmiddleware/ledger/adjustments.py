"""Adjustments on Redis: the ports of `core.adjustments`, with an asynchronous and with a synchronous client. What is
sent and how an answer is read is the same for both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from govmiddleware.core.adjustments import (
    Action,
    Adjusted,
    Adjustment,
    Look,
    NotAdjusted,
    Restored,
    Seen,
    SeenMember,
)
from govmiddleware.core.limits import Counter, Meter
from govmiddleware.ledger import scripts, sync_connection
from govmiddleware.ledger.connection import LONG_PATIENCE_SECONDS, Client, store_call
from govmiddleware.ledger.epochs import Epochs, SyncEpochs
from govmiddleware.ledger.holds import window_arguments
from govmiddleware.ledger.keys import WORKSPACES, WorkspaceKeys
from govmiddleware.ledger.ledger import late
from govmiddleware.ledger.scripts import Argument, Script

_REMEMBERED_MS = 5 * 60 * 1000
"""How long an adjustment may be sent again."""


class _Trip(msgspec.Struct, frozen=True):
    script: Script
    keys: list[str]
    arguments: list[Argument]


class RedisAdjustments:
    """The port `Adjustments`.

    Args:
        redis: a client that never retries (`connection.connect`).
        epochs: without them every workspace is taken for a new one.
        clock: a test's clock in Unix milliseconds; without it the store's own TIME decides.
    """

    def __init__(
        self, redis: Client, *, epochs: Epochs | None = None, clock: Callable[[], int] | None = None
    ) -> None:
        self._redis = redis
        self._epochs = epochs or Epochs(redis)
        self._clock = clock
        self._listed: set[str] = set()

    async def adjust(self, workspace: str, adjustment: Adjustment) -> Adjusted | NotAdjusted:
        if workspace not in self._listed:
            async with store_call():
                await self._redis.sadd(WORKSPACES, workspace)
            self._listed.add(workspace)
        return _adjusted(
            await self._run(workspace, lambda now: _adjust_trip(workspace, adjustment, now, self._clock))
        )

    async def look(self, workspace: str, look: Look) -> Seen:
        return _seen(
            look, await self._run(workspace, lambda now: _look_trip(workspace, look, now, self._clock))
        )

    async def members(self, workspace: str, book: str) -> list[str]:
        async with store_call(LONG_PATIENCE_SECONDS):
            found = await self._redis.zrange(WorkspaceKeys(workspace).book(book), 0, -1)
        return [member.decode() for member in cast("list[bytes]", found)]

    async def _run(self, workspace: str, trip_at: Callable[[int], _Trip]) -> list[bytes]:
        now = _now_ms(self._clock)
        for _ in range(3):
            trip = trip_at(now)
            async with store_call():
                answer: list[bytes] = await trip.script(self._redis, trip.keys, trip.arguments)
            match answer[0]:
                case b"lost":
                    await self._epochs.begin(workspace)
                case b"stale":
                    now = int(answer[1])
                case _:
                    return answer
        raise late()


class SyncRedisAdjustments:
    """The port `SyncAdjustments`.

    Args:
        redis: a client that never retries (`sync_connection.connect`).
        epochs: without them every workspace is taken for a new one.
    """

    def __init__(
        self,
        redis: sync_connection.SyncClient,
        *,
        epochs: SyncEpochs | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._redis = redis
        self._epochs = epochs or SyncEpochs(redis)
        self._clock = clock
        self._listed: set[str] = set()

    def adjust(self, workspace: str, adjustment: Adjustment) -> Adjusted | NotAdjusted:
        if workspace not in self._listed:
            with sync_connection.store_call():
                self._redis.sadd(WORKSPACES, workspace)
            self._listed.add(workspace)
        return _adjusted(
            self._run(workspace, lambda now: _adjust_trip(workspace, adjustment, now, self._clock))
        )

    def look(self, workspace: str, look: Look) -> Seen:
        return _seen(look, self._run(workspace, lambda now: _look_trip(workspace, look, now, self._clock)))

    def members(self, workspace: str, book: str) -> list[str]:
        with sync_connection.store_call():
            found: Any = self._redis.zrange(WorkspaceKeys(workspace).book(book), 0, -1)
        return [member.decode() for member in found]

    def _run(self, workspace: str, trip_at: Callable[[int], _Trip]) -> list[bytes]:
        now = _now_ms(self._clock)
        for _ in range(3):
            trip = trip_at(now)
            with sync_connection.store_call():
                answer: list[bytes] = trip.script.run(self._redis, trip.keys, trip.arguments)
            match answer[0]:
                case b"lost":
                    self._epochs.begin(workspace)
                case b"stale":
                    now = int(answer[1])
                case _:
                    return answer
        raise late()


def _adjust_trip(
    workspace: str, adjustment: Adjustment, now_ms: int, clock: Callable[[], int] | None
) -> _Trip:
    keys, member = WorkspaceKeys(workspace), adjustment.member
    book = member.book if member else ""
    arguments: list[Argument] = [
        clock() if clock else "",
        _REMEMBERED_MS,
        adjustment.record or b"",
        adjustment.action.value,
        member.name if member else "",
        member.terms if member else "",
        _or_empty(member.idle_ms if member else None),
        _or_empty(member.most if member else None),
        int(adjustment.if_idle),
        adjustment.turn,
    ]
    for counter, amount in zip(adjustment.counters, _amounts(adjustment), strict=True):
        kind, bounds = window_arguments(counter, now_ms)
        arguments += [amount, kind, *bounds]
    own = [
        keys.state,
        keys.adjustment(adjustment.id),
        keys.journal,
        keys.book(book),
        keys.terms(book),
        keys.restorer,
    ]
    counters = [keys.counter(counter.name) for counter in adjustment.counters]
    return _Trip(scripts.adjust, own + counters, arguments)


def _amounts(adjustment: Adjustment) -> Sequence[int | str]:
    """Of each counter, as `adjust.lua` is told."""
    match adjustment.action:
        case Action.ADD:
            return adjustment.amounts
        case Action.RESTORE:
            return [
                _restored(counter, restored)
                for counter, restored in zip(adjustment.counters, adjustment.restored, strict=True)
            ]
        case _:
            return (0,) * len(adjustment.counters)


def _restored(counter: Counter, restored: Restored) -> str:
    used = "f" if counter.meter is Meter.WALL_CLOCK else "u"
    fields = [f"{used}{bucket} {amount}" for bucket, amount in restored.used.items()]
    fields += [f"r{bucket} {amount}" for bucket, amount in restored.reserved.items()]
    return " ".join(fields)


def _look_trip(workspace: str, look: Look, now_ms: int, clock: Callable[[], int] | None) -> _Trip:
    keys = WorkspaceKeys(workspace)
    arguments: list[Argument] = [clock() if clock else "", len(look.members), *look.members]
    for counter in look.counters:
        kind, bounds = window_arguments(counter, now_ms)
        arguments += [kind, *bounds]
    own = [keys.state, keys.book(look.book), keys.terms(look.book)]
    return _Trip(scripts.look, own + [keys.counter(counter.name) for counter in look.counters], arguments)


def _adjusted(answer: list[bytes]) -> Adjusted | NotAdjusted:
    if answer[0] != b"done":
        return NotAdjusted(answer[0].decode())
    split = answer.index(b"", 2)
    states = [state.split() for state in answer[split + 1 :]]
    return Adjusted(
        used=tuple(int(used) for used, _ in states),
        changes=tuple(int(change) for _, change in states),
        terms=answer[1].decode(),
        idle=tuple(member.decode() for member in answer[2:split]),
    )


def _seen(look: Look, answer: list[bytes]) -> Seen:
    split = 1 + 2 * len(look.members)
    members = zip(answer[1:split:2], answer[2:split:2], strict=True)
    states = [state.split() for state in answer[split:]]
    return Seen(
        used=tuple(None if used == b"-" else int(used) for used, _ in states),
        reserved=tuple(int(reserved) for _, reserved in states),
        members=tuple(
            SeenMember(int(unused) if unused else None, terms.decode()) for unused, terms in members
        ),
    )


def _or_empty(number: int | None) -> int | str:
    return "" if number is None else number


def _now_ms(clock: Callable[[], int] | None) -> int:
    return clock() if clock else time.time_ns() // 1_000_000
