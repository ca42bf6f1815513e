"""Python's collector of garbage while a process starts: what imports make stays, and it would look through all of it
again and again, for a fifth of the time that they take."""

from __future__ import annotations

import gc

_USUAL = gc.get_threshold()
_RARELY = 50_000
"""How many objects may be made before it looks for garbage among them, instead of 700."""


def collect_rarely() -> None:
    """To begin with; enough for commands that end soon."""
    gc.set_threshold(_RARELY)


def collect_as_usual() -> None:
    """For a process that stays: as usual, and never among what there is by now."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
