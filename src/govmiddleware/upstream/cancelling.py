"""Ending what a task waits for, from outside: when its client leaves, or when it takes too long."""

from __future__ import annotations

import asyncio


class CancelScope:
    """What `asyncio.timeout(None)` is, without a time and at a fraction of its cost: made by the task that it cancels,
    and asked by it of every error that ends what it was made for."""

    __slots__ = ("_cancelling", "_task", "cancelled")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "it is a task that is cancelled"
        self._task = task
        self._cancelling = task.cancelling()
        self.cancelled = False

    def cancel(self) -> None:
        """Once, whoever asks again."""
        if not self.cancelled:
            self.cancelled = True
            self._task.cancel()

    def caused(self, error: BaseException) -> bool:
        """Whether `error` is this scope's cancellation, and nobody else cancels the task: then it is no
        cancellation to pass on. To be asked once."""
        return (
            self.cancelled
            and self._task.uncancel() <= self._cancelling
            and isinstance(error, asyncio.CancelledError)
        )


class Deadline(CancelScope):
    """Cancels its task when a time is over, which may be moved as often as one likes: one timer serves them all. When
    it rings, it is set anew for what is left by then."""

    __slots__ = ("_ends", "_loop", "_rings", "_timer")

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._ends: float | None = None
        self._rings = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def allow(self, seconds: float | None) -> None:
        """So long from now; None: as long as it takes."""
        if seconds is None:
            self._ends = None
            return
        self._ends = ends = self._loop.time() + seconds
        if self._timer is None or ends < self._rings:
            self._set(ends)

    def close(self) -> None:
        """Nothing is cancelled any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, rings: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = rings
        self._timer = self._loop.call_at(rings, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._ends is None:
            return
        if self._loop.time() < self._ends:
            self._set(self._ends)
        else:
            self.cancel()
