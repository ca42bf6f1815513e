"""Ending a task's wait from outside, and nothing but that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from govmiddleware.upstream.cancelling import CancelScope, Deadline

FOREVER = 60.0
"""Seconds: a test that waits so long has failed."""


async def ended_by(scope: CancelScope, begin: Callable[[], object] = lambda: None) -> bool:
    """Whether a wait of this task, begun with `begin`, is ended by the scope."""
    try:
        begin()
        await asyncio.wait_for(asyncio.get_running_loop().create_future(), 5)
    except asyncio.CancelledError as error:
        return scope.caused(error)
    raise AssertionError("it never ends")


async def in_a_task(work: Callable[[], Awaitable[object]]) -> object:
    async def run() -> object:
        return await work()

    return await asyncio.create_task(run())


async def test_a_scope_ends_a_wait_and_leaves_the_task_as_it_was() -> None:
    async def work() -> int:
        scope = CancelScope()
        assert await ended_by(scope, lambda: asyncio.get_running_loop().call_soon(scope.cancel))
        await asyncio.sleep(0)  # which a task that is still being cancelled could not
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert await in_a_task(work) == 0


async def test_a_cancellation_from_elsewhere_is_not_the_scopes() -> None:
    task = asyncio.current_task()
    assert task is not None
    assert not await ended_by(CancelScope(), lambda: asyncio.get_running_loop().call_soon(task.cancel))
    task.uncancel()


async def test_a_cancellation_from_elsewhere_goes_before_the_scopes_own() -> None:
    task = asyncio.current_task()
    assert task is not None
    scope = CancelScope()

    def both() -> None:
        scope.cancel()
        task.cancel()

    assert not await ended_by(scope, lambda: asyncio.get_running_loop().call_soon(both))
    assert task.uncancel() == 0


async def test_an_error_of_the_block_stays_one_though_the_scope_was_cancelled() -> None:
    scope = CancelScope()
    scope.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert not scope.caused(LookupError())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("times", [(0.01,), (FOREVER, 0.01), (0.01, 0.05), (None, 0.01), (0.01, None, 0.03)])
async def test_a_deadline_rings_when_the_time_last_allowed_is_over(times: tuple[float | None, ...]) -> None:
    deadline = Deadline()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for seconds in times:
        deadline.allow(seconds)
    assert await ended_by(deadline)
    assert times[-1] is not None
    assert loop.time() - began >= times[-1] - 0.002  # loops round to milliseconds


@pytest.mark.parametrize("end", [lambda deadline: deadline.allow(None), Deadline.close])
async def test_a_deadline_that_was_lifted_does_not_ring(end: Callable[[Deadline], None]) -> None:
    deadline = Deadline()
    deadline.allow(0.01)
    end(deadline)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, later.set)
    await later.wait()
    assert not deadline.cancelled
