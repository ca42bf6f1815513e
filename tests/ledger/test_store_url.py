"""URLs of stores, as redis-py's clients get them."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from govmiddleware.ledger.store_url import StoreUrl, read_store_url

SERVER = ("server", (), "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", StoreUrl(*SERVER, {"host": "h"}, {})),
        ("redis://u:p%40@h:1/2", StoreUrl(*SERVER, {"username": "u", "password": "p@", "host": "h", "port": 1, "db": 2}, {})),
        ("unix:///a%20b.sock?db=3", StoreUrl(*SERVER, {"path": "/a b.sock", "db": 3, "connection_class": UnixDomainSocketConnection}, {})),
        ("rediss://h?ssl_ca_certs=/ca.pem", StoreUrl(*SERVER, {"host": "h", "ssl_ca_certs": "/ca.pem", "connection_class": SSLConnection}, {})),
        ("redis+sentinel://a,b:1/books", StoreUrl("sentinel", (("a", 26379), ("b", 1)), "books", {}, {})),
        (
            "redis+sentinel://u:p%2C@a/my%20books/4?sentinel_username=s&sentinel_password=t",
            StoreUrl("sentinel", (("a", 26379),), "my books", {"username": "u", "password": "p,", "db": 4}, {"username": "s", "password": "t"}),
        ),
        (
            "rediss+sentinel://a/books?ssl_ca_certs=/ca.pem",
            StoreUrl("sentinel", (("a", 26379),), "books", {"ssl": True, "ssl_ca_certs": "/ca.pem"}, {"ssl": True, "ssl_ca_certs": "/ca.pem"}),
        ),
        ("redis+cluster://:p@a,[::1]:7001,c:1/0", StoreUrl("cluster", (("a", 6379), ("::1", 7001), ("c", 1)), "", {"password": "p"}, {})),
        ("rediss+cluster://a", StoreUrl("cluster", (("a", 6379),), "", {"ssl": True}, {"ssl": True})),
    ],
)  # fmt: skip
def test_a_url_says_where_the_store_is_and_how_to_reach_it(url: str, expected: StoreUrl) -> None:
    assert read_store_url(url) == expected
