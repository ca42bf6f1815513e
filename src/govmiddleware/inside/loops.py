"""The event loop that a Governance lives on, and the way there from threads and from other loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import anyio.from_thread

from govmiddleware.errors import WrongEventLoop

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Step = Callable[Arguments, Coroutine[Any, Any, Result]]


async def run_on(
    loop: asyncio.AbstractEventLoop,
    step: Step[Arguments, Result],
    *arguments: Arguments.args,
    **keywords: Arguments.kwargs,
) -> Result:
    """Await a step on `loop`, which may be another than the running one."""
    if loop is asyncio.get_running_loop():
        return await step(*arguments, **keywords)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(step(*arguments, **keywords), loop))


def call_on(
    loop: asyncio.AbstractEventLoop,
    step: Step[Arguments, Result],
    *arguments: Arguments.args,
    **keywords: Arguments.kwargs,
) -> Result:
    """Wait for a step on `loop`, in a thread that runs none. An interrupt of the wait cancels the step."""
    future = asyncio.run_coroutine_threadsafe(step(*arguments, **keywords), loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class Home:
    """Which event loop: the one on which the Governance was opened; until then the one that calls, or that
    the calling thread works for, or one in a thread of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Raises WrongEventLoop where another loop than the running one is the one."""
        running = asyncio.get_running_loop()
        if self._loop is not running and self._alive() not in (None, running):
            raise WrongEventLoop(
                "This Governance is open on another event loop: open it in the app's lifespan, before anything"
                " else does."
            )

    def enter(self) -> None:
        """The Governance is open on the running loop."""
        self._loop = asyncio.get_running_loop()

    def leave(self) -> None:
        """The Governance is closed; it may be opened anywhere."""
        self._loop = None

    def for_task(self) -> asyncio.AbstractEventLoop:
        """The loop for the work of asynchronous code. Raises WrongEventLoop where it has ended."""
        return self._alive() or asyncio.get_running_loop()

    def for_thread(self) -> asyncio.AbstractEventLoop:
        """The loop for the work of synchronous code. Raises WrongEventLoop where that would block it."""
        loop = self._alive() or _loop_of_worker_thread() or self.start_thread()
        if loop is _running_loop():
            raise WrongEventLoop(
                "A synchronous call would block the event loop that this Governance runs on: use the"
                " asynchronous client, or a thread (asyncio.to_thread)."
            )
        return loop

    def start_thread(self) -> asyncio.AbstractEventLoop:
        """A loop in a thread of its own, for code that has none."""
        with self._lock:
            if self._thread_loop is None:
                self._thread_loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._thread_loop.run_forever, name="govmiddleware", daemon=True
                )
                self._thread.start()
            return self._thread_loop

    def stop_thread(self) -> None:
        """End it. What still runs there is cancelled."""
        with self._lock:
            loop, thread = self._thread_loop, self._thread
            self._thread_loop = self._thread = None
        if loop is not None and thread is not None:
            call_on(loop, _cancel_others)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _alive(self) -> asyncio.AbstractEventLoop | None:
        if self._loop is not None and not self._loop.is_running():
            raise WrongEventLoop(
                "The event loop that this Governance was opened on has ended: close it before that, with"
                " `async with governance:`."
            )
        return self._loop


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _loop_of_worker_thread() -> asyncio.AbstractEventLoop | None:
    """Where Starlette runs a synchronous endpoint, the loop of the app."""
    try:
        return anyio.from_thread.run_sync(asyncio.get_running_loop)
    except RuntimeError:
        return None


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
