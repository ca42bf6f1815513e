"""Client addresses: whom a connection comes from, through proxies that are trusted to say so."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

UNKNOWN = "unknown"

_ON_THE_WAY = (b"forwarded", b"x-forwarded-", b"x-real-ip", b"x-client-ip", b"true-client-ip")
"""How the names of headers begin by which proxies say what a request was like on its way to them."""


class TrustedProxies:
    """The networks whose `X-Forwarded-For` and the like count.

    Args:
        networks: addresses or CIDR networks, as text. Raises ValueError where one is neither.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(map(ip_network, networks))

    def client_address(self, peer: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The last address on the way that no trusted proxy vouches for; UNKNOWN over a unix socket.

        Without a port, which some load balancers write, and IPv4 as such: a client is one address.
        """
        address = _plain(peer[0]) if peer else UNKNOWN
        if not self._networks:
            return address
        forwarded = [
            hop.strip()
            for name, value in headers
            if name == b"x-forwarded-for"
            for hop in value.decode("latin-1").split(",")
        ]
        while forwarded and self._trusts(address):
            address = _plain(forwarded.pop())
        return address

    def believed(
        self, peer: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        """The headers without what only a trusted proxy may say: where a request came from, by which address
        and over which scheme. An upstream that believes us must not believe a client."""
        if peer and self._networks and self._trusts(_plain(peer[0])):
            return list(headers)
        return [header for header in headers if not header[0].replace(b"_", b"-").startswith(_ON_THE_WAY)]

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


@lru_cache(maxsize=4096)
def _plain(hop: str) -> str:
    """The address of a hop, in its shortest form; as it is where it is none."""
    host = hop
    if hop.startswith("["):
        host = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        host = hop.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return hop
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
