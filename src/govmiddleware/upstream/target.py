"""Where a request goes: the upstream's base URL and the request target, put together verbatim."""

from __future__ import annotations

from urllib.parse import quote

from starlette.types import Scope

from govmiddleware.core.paths import raw_path
from govmiddleware.core.query import without_key as query_without_key
from govmiddleware.core.refusals import InvalidRequest


def target_url(base_url: str, scope: Scope, *, without_key: bool = False) -> str:
    """The URL for one request, its path and query as they came; without the key in its query, where that is asked.

    Raises InvalidRequest where the target is no absolute path: appended to the base URL, one such as
    `@elsewhere/` would name another host.
    """
    path = raw_path(scope)
    if not path.startswith(b"/") or b"#" in path:
        raise InvalidRequest("The request target must be an absolute path.")
    query: bytes = scope.get("query_string", b"")
    if without_key:
        query = query_without_key(query)
    return base_url + _text(path) + ("?" + _text(query) if query else "")


def _text(part: bytes) -> str:
    """As ASCII; stray bytes that a lenient server let through are percent-encoded."""
    return part.decode("ascii") if part.isascii() else quote(part, safe="%/:?#[]@!$&'()*+,;=~")
