"""Whom a connection comes from, through proxies that are trusted to say so."""

from __future__ import annotations

import pytest

from govmiddleware.core.addresses import UNKNOWN, TrustedProxies

PROXY = ("10.0.0.1", 443)


def address(networks: list[str], peer: tuple[str, int] | None, *forwarded: str) -> str:
    headers = [(b"accept", b"*/*"), *((b"x-forwarded-for", hop.encode()) for hop in forwarded)]
    return TrustedProxies(networks).client_address(peer, headers)


def test_without_proxies_it_is_the_peer_whatever_the_headers_say() -> None:
    assert address([], ("192.0.2.1", 1), "203.0.113.1") == "192.0.2.1"
    assert address([], None, "203.0.113.1") == UNKNOWN


def test_a_peer_that_is_not_trusted_is_believed_nothing() -> None:
    assert address(["10.0.0.0/8"], ("192.0.2.1", 1), "203.0.113.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["203.0.113.1"], "203.0.113.1"),
        (["1.1.1.1, 203.0.113.1"], "203.0.113.1"),
        (["203.0.113.1, 10.9.9.9, 10.0.0.7"], "203.0.113.1"),
        (["1.1.1.1", "203.0.113.1, 10.0.0.7"], "203.0.113.1"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ([], "10.0.0.1"),
        (["2001:db8::1"], "2001:db8::1"),
    ],
)
def test_behind_trusted_proxies_it_is_the_last_that_none_of_them_is(forwarded, expected) -> None:
    assert address(["10.0.0.0/8"], PROXY, *forwarded) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("203.0.113.1:50123", "203.0.113.1"),
        ("[2001:db8::1]:50123", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("203.0.113.1, 10.0.0.7:8080", "203.0.113.1"),
        ("::ffff:203.0.113.1", "203.0.113.1"),
        ("203.0.113.1, ::ffff:10.0.0.7", "203.0.113.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_one_client_has_one_address_however_it_is_written(forwarded, expected) -> None:
    """A port in it, as some load balancers write, would give each connection a throttle of its own."""
    assert address(["10.0.0.0/8"], PROXY, forwarded) == expected


def test_a_proxy_seen_over_ipv6_is_trusted_as_the_ipv4_it_is() -> None:
    assert address(["10.0.0.0/8"], ("::ffff:10.0.0.1", 443), "203.0.113.1") == "203.0.113.1"


@pytest.mark.parametrize(
    "forwarded", ["", "unknown", "_hidden", "10.0.0.999", "\xff", "10.0.0.0/8", "a" * 999]
)
def test_what_is_no_address_is_not_trusted_and_breaks_nothing(forwarded) -> None:
    assert address(["10.0.0.0/8"], PROXY, f"203.0.113.1, {forwarded}") != "203.0.113.1"


FORWARDING = [
    (b"x-forwarded-for", b"203.0.113.1"),
    (b"x-forwarded-proto", b"https"),
    (b"x_forwarded_host", b"x"),
    (b"forwarded", b"for=203.0.113.1"),
    (b"x-real-ip", b"203.0.113.1"),
]


def test_what_a_trusted_proxy_says_of_the_way_is_believed() -> None:
    headers = [(b"accept", b"*/*"), *FORWARDING]
    assert TrustedProxies(["10.0.0.0/8"]).believed(PROXY, headers) == headers


@pytest.mark.parametrize("peer", [("192.0.2.1", 1), None])
def test_what_anybody_else_says_of_the_way_is_not(peer) -> None:
    accept = (b"accept", b"*/*")
    assert TrustedProxies(["10.0.0.0/8"]).believed(peer, [accept, *FORWARDING]) == [accept]


@pytest.mark.parametrize("network", ["x", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_what_is_no_network_is_refused(network) -> None:
    with pytest.raises(ValueError, match=r".+"):
        TrustedProxies([network])
