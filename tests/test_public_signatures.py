"""How the public names are called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import govmiddleware

SIGNATURES = Path(__file__).with_name("public_signatures.txt")
NOT_CALLED = {"Settings", "Call"}
"""Settings are pinned by docs/settings.md. A Call is made by the stack."""


def signatures() -> Iterator[str]:
    """How each name is called, and under each class its own methods and properties."""
    for name in govmiddleware.__all__:
        found = getattr(govmiddleware, name)
        yield f"{name}{inspect.signature(found) if inspect.isfunction(found) else ''}"
        if inspect.isclass(found) and name not in NOT_CALLED:
            yield from (
                f"    {line}" for member in sorted(vars(found)) if (line := _signature(found, member))
            )


def _signature(of: type, member: str) -> str | None:
    value = inspect.getattr_static(of, member)
    called = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    if member.startswith("_") and member != "__init__":
        return None
    if isinstance(value, property):
        return f"{member} -> {inspect.signature(value.fget).return_annotation}"  # type: ignore[arg-type]
    if not inspect.isfunction(called):
        return None
    shown = re.sub(r" at 0x\w+", "", str(inspect.signature(called)))
    return f"{'async ' * inspect.iscoroutinefunction(called)}{member}{shown}"


def test_they_are_called_as_ever() -> None:
    """A change here is one of the public API, of which docs/releases.md says what it takes: then write what
    `signatures()` says into the file."""
    assert list(signatures()) == SIGNATURES.read_text().splitlines()
