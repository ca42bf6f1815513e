"""The URL of a store, read: one server, a master that Sentinel names, or a cluster."""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec
from redis.asyncio.connection import Connection, parse_url

_URL = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://"
    r"((?P<credentials>[^/?]*)@)?(?P<hosts>[^/?@]+)(?P<path>/[^?]*)?(\?(?P<query>.*))?"
)
_OURS = frozenset(
    [
        "decode_responses",
        "encoding",
        "health_check_interval",
        "legacy_responses",
        "max_connections",
        "protocol",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_timeout",
        "timeout",
    ]
)
_AUTHORITY = "hosts must be HOST or HOST:PORT, and a password before @ percent-encoded"
_PORTS = {"sentinel": 26379, "cluster": 6379}


class StoreUrl(msgspec.Struct, frozen=True):
    """What a URL says.

    Attributes:
        kind: `server` for `redis://`, `rediss://` and `unix://`.
        hosts: the sentinels, or nodes of the cluster to ask first; empty for one server.
        service: the name under which the sentinels know the master.
        options: keywords for redis-py's connections, `connection_class` among them.
        sentinel_options: the same for the connections to the sentinels.
    """

    kind: Literal["server", "sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]
    sentinel_options: dict[str, Any]


def read_store_url(url: str) -> StoreUrl:
    """Read a URL of one of these forms; `rediss` instead of `redis` means TLS:

        redis://[[USER]:PASSWORD@]HOST[:6379][/DB]
        unix://[[USER]:PASSWORD@]/PATH[?db=DB]
        redis+sentinel://[[USER]:PASSWORD@]HOST[:26379][,HOST..]/SERVICE[/DB]
        redis+cluster://[[USER]:PASSWORD@]HOST[:6379][,HOST..]

    Options follow as in redis-py's URLs: `?ssl_ca_certs=/etc/ca.pem`. The sentinels' own credentials are
    `sentinel_username` and `sentinel_password`; their TLS is the store's.

    Raises ValueError, with what would be right.
    """
    composite = _URL.fullmatch(url)
    if composite is None:
        if "+" in url.partition("://")[0]:
            raise ValueError("hosts must follow, such as redis+cluster://HOST,HOST")
        options = _parsed(url)
        _check_options(options)
        return StoreUrl("server", (), "", options, {})
    kind: Literal["sentinel", "cluster"] = "sentinel" if composite["kind"] == "sentinel" else "cluster"
    hosts = tuple(_host(each, _PORTS[kind]) for each in composite["hosts"].split(","))
    service, db = _path(kind, composite["path"] or "")
    credentials = f"{composite['credentials']}@" if composite["credentials"] else ""
    plain = f"{composite['scheme']}://{credentials}host{db}?{composite['query'] or ''}"
    options = _parsed(plain)
    del options["host"]
    own = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    _check_options(options)
    for_tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    sentinel_options = {name: value for name, value in own.items() if value is not None} | for_tls
    if composite["scheme"] == "rediss":
        sentinel_options["ssl"] = options["ssl"] = True
    options.pop("connection_class", None)  # the clients of sentinels and clusters choose their own by `ssl`
    return StoreUrl(kind, hosts, service, options, sentinel_options)


def _host(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        given = parts.port
    except ValueError:
        raise ValueError(_AUTHORITY) from None
    if not parts.hostname or parts.path:
        raise ValueError(_AUTHORITY)
    return parts.hostname, given or port


def _parsed(url: str) -> dict[str, Any]:
    try:
        _ = urlsplit(url).port
    except ValueError:  # it quotes what may be half a password
        raise ValueError(_AUTHORITY) from None
    return dict(parse_url(url))


def _path(kind: str, path: str) -> tuple[str, str]:
    """The service, and the database as `/DB`."""
    if kind == "cluster":
        if path.strip("/") not in ("", "0"):
            raise ValueError("a cluster has no databases but 0: nothing may follow its hosts")
        return "", ""
    found = re.fullmatch(r"/([^/]+)(/\d+)?/?", path)
    if found is None:
        raise ValueError("the name of the master must follow the sentinels: redis+sentinel://HOST,HOST/NAME")
    return unquote(found[1]), found[2] or ""


def _check_options(options: dict[str, Any]) -> None:
    """redis-py takes any option into a URL, and fails at the first connection."""
    if taken := sorted(_OURS & options.keys()):
        raise ValueError(f"{taken[0]} is govmiddleware's own to set, as its guarantees rest on it")
    made_of = {name: value for name, value in options.items() if name != "connection_class"}
    try:
        options.get("connection_class", Connection)(**made_of)
    except TypeError as error:
        raise ValueError(f"redis-py's connections know no such option: {error}") from None
