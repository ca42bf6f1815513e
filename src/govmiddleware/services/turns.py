"""Long computing in a thread, with the event loop let in every half a millisecond."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_TURN_SECONDS = 0.0005
"""How long a thread may compute while another waits. Python's own 5 ms are long for an event loop, which gives the
interpreter up at every socket that it touches and has to wait for it again each time."""

_threads = ThreadPoolExecutor(2, "govmiddleware-compute")
"""So that something long does not hold up the rest. Not the event loop's own threads, which are dozens on a large
machine: each that ever counted keeps 16 MB for the tokenizer."""

_lock = threading.Lock()
_computing = 0
_usual = sys.getswitchinterval()


async def compute(work: Callable[[], T]) -> T:
    """What `work` returns, computed in a thread. It holds up the loop for no longer than its longest single call of
    code that is not Python's and keeps the interpreter. Raises what it raises."""

    def run() -> T:
        with _short_turns():
            return work()

    return await asyncio.get_running_loop().run_in_executor(_threads, run)


@contextmanager
def _short_turns() -> Iterator[None]:
    """While anything is computed; then the interpreter has the interval again that it had before."""
    global _computing, _usual
    with _lock:
        if _computing == 0:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual, _TURN_SECONDS))
        _computing += 1
    try:
        yield
    finally:
        with _lock:
            _computing -= 1
            if _computing == 0:
                sys.setswitchinterval(_usual)
