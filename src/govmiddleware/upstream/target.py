"""Where a request goes: the upstream's base URL and the request target, put together verbatim."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from starlette.types import Scope

from govmiddleware.core.paths import raw_path
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.errors import ConfigurationError


def checked_base_url(url: str) -> str:
    """An upstream URL without its trailing slash. Raises ConfigurationError."""
    expected = "an http or https URL with a host, perhaps a path prefix, and nothing else"
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ConfigurationError("upstream", url, expected) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid or not url.isascii():
        raise ConfigurationError("upstream", url, expected)
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ConfigurationError("upstream", "…" if "@" in parts.netloc else url, expected)
    return url.rstrip("/")


def target_url(base_url: str, scope: Scope) -> str:
    """The URL for one request, its path and query as they came.

    Raises InvalidRequest where the target is no absolute path: appended to the base URL, one such as
    `@elsewhere/` would name another host.
    """
    path = raw_path(scope)
    if not path.startswith(b"/") or b"#" in path:
        raise InvalidRequest("The request target must be an absolute path.")
    query: bytes = scope.get("query_string", b"")
    return base_url + _text(path) + ("?" + _text(query) if query else "")


def _text(part: bytes) -> str:
    """As ASCII; stray bytes that a lenient server let through are percent-encoded."""
    return part.decode("ascii") if part.isascii() else quote(part, safe="%/:?#[]@!$&'()*+,;=~")
