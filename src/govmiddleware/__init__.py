"""Composable ASGI middlewares that govern LLM traffic in front of any upstream.

The public names. Each is imported when it is first asked for (PEP 562), so that `import govmiddleware`
costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from govmiddleware.app import Governance, GovernanceMiddleware, govern
    from govmiddleware.core.call import Call, Principal, Role, current_call
    from govmiddleware.core.refusals import Refusal
    from govmiddleware.errors import ConfigurationError, GovError, StoreUnavailable
    from govmiddleware.middleware import Authenticate, Budget, Estimate, Journal, Meter, RateLimit
    from govmiddleware.settings import Settings

__all__ = [
    "Governance",
    "GovernanceMiddleware",
    "govern",
    "Settings",
    "Journal",
    "Authenticate",
    "RateLimit",
    "Estimate",
    "Budget",
    "Meter",
    "Call",
    "Principal",
    "Role",
    "current_call",
    "GovError",
    "ConfigurationError",
    "StoreUnavailable",
    "Refusal",
]

_HOMES = {
    "app": ("Governance", "GovernanceMiddleware", "govern"),
    "settings": ("Settings",),
    "middleware": ("Journal", "Authenticate", "RateLimit", "Estimate", "Budget", "Meter"),
    "core.call": ("Call", "Principal", "Role", "current_call"),
    "core.refusals": ("Refusal",),
    "errors": ("GovError", "ConfigurationError", "StoreUnavailable"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
