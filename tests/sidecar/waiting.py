"""Waiting for what other threads and processes do: until it is so, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(look: Callable[[], Found | None], *, within: float = 10.0) -> Found:
    """What `look` returns as soon as it is truthy. Fails after `within` seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {within} s: {look}")


def settled(count: Callable[[], int], *, still_for: float = 0.3, within: float = 10.0) -> int:
    """The value of a counter once it has moved and then not changed for a while."""
    deadline = time.monotonic() + within
    value, since = count(), time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if count() != value:
            value, since = count(), time.monotonic()
        elif value and time.monotonic() - since >= still_for:
            return value
    raise AssertionError(f"not still within {within} s: {value}")
