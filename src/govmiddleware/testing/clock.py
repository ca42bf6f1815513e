"""A clock that tests move."""

from __future__ import annotations

import time


class Clock:
    """Unix milliseconds that stand still until told otherwise; give it as `Governance(clock=...)`.

    Starts at the present: keys in the store live by the store's own time.
    """

    def __init__(self) -> None:
        self.now_ms = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
