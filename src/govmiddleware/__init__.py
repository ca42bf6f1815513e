"""govmiddleware: API tokens, rate limits and budgets that hold, in front of any LLM.

The names of `__all__` are the public ones. Each is imported when it is first used, so that
`import govmiddleware` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from govmiddleware.app import Governance
    from govmiddleware.budgets import (
        AgentBudget,
        BudgetUsage,
        Caps,
        SessionBudgets,
        Step,
        SyncAgentBudget,
        SyncSessionBudgets,
    )
    from govmiddleware.core.call import Attribution, Call, Principal, Role, current_call
    from govmiddleware.core.refusals import Refusal
    from govmiddleware.errors import (
        BudgetExhaustedError,
        ConfigurationError,
        GovError,
        MissingPredecessor,
        NoCaller,
        StoreUnavailable,
        UpstreamError,
        UpstreamTimeout,
        UpstreamUnreachable,
        WrongEventLoop,
    )
    from govmiddleware.middleware import Authenticate, Budget, Estimate, Journal, Meter, RateLimit
    from govmiddleware.settings import Settings

    __version__: str

_HOMES = {
    "govmiddleware.app": ("Governance",),
    "govmiddleware.host": ("GovernanceMiddleware", "govern"),
    "govmiddleware.middleware": ("Journal", "Authenticate", "RateLimit", "Estimate", "Budget", "Meter"),
    "govmiddleware.budgets": (
        "AgentBudget",
        "SessionBudgets",
        "SyncAgentBudget",
        "SyncSessionBudgets",
        "Caps",
        "BudgetUsage",
        "Step",
    ),
    "govmiddleware.settings": ("Settings",),
    "govmiddleware.core.call": ("Attribution", "Call", "Principal", "Role", "current_call"),
    "govmiddleware.core.refusals": ("Refusal",),
    "govmiddleware.errors": (
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
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
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


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        found: object = version("govmiddleware")
    elif name in _HOME_OF:
        found = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
