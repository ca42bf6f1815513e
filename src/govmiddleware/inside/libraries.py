"""httpx and httpx2: the same API, told apart by their objects. Neither is imported here."""

from __future__ import annotations

import sys
from types import ModuleType

from govmiddleware.errors import UpstreamUnreachable


def library_of(request: object) -> ModuleType:
    """The library whose request it is. Raises TypeError where it is neither's."""
    for library in _loaded():
        if isinstance(request, library.Request):
            return library
    raise TypeError(f"{type(request).__qualname__} is a request neither of httpx nor of httpx2")


def never_sent(error: BaseException) -> bool:
    """Whether an error says that nothing of the request has left: it can have cost nothing."""
    if isinstance(error, UpstreamUnreachable):
        return not error.sent
    return any(
        isinstance(
            error,
            (
                library.ConnectError,
                library.ConnectTimeout,
                library.PoolTimeout,
                library.UnsupportedProtocol,
            ),
        )
        for library in _loaded()
    )


def _loaded() -> list[ModuleType]:
    return [sys.modules[name] for name in ("httpx2", "httpx") if name in sys.modules]
