"""When Python's collector looks for garbage: while a process starts, and once it serves."""

from __future__ import annotations

import gc

_STARTING = 50_000
"""How many objects are made before it looks among them, instead of 700: what imports make stays, and looking through
it again and again took a fifth of their time."""

_SERVING = 10_000
"""More than were let go. Requests leave hardly any garbage: the later it comes, the less of what it looks through is
still in use."""


def collect_rarely() -> None:
    """To begin with; enough for commands that end soon."""
    gc.set_threshold(_STARTING)


def collect_while_serving() -> None:
    """From now on, and never among what there is by now: looking through that took 80 ms each time."""
    gc.freeze()
    gc.set_threshold(_SERVING)
