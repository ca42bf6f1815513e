"""Every kind of store that an operator may have, each started for the tests with nothing in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis
import trustme
from redis.cluster import ClusterNode
from redis.sentinel import Sentinel

from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.ledger.store_url import read_store_url
from tests.stores.cluster import cluster
from tests.stores.sentinels import watched
from tests.stores.server import NEEDS_DEBIANS_REDIS, Server, command_at, redis_binary, valkey_binary

DOCS = Path(__file__).parents[2] / "docs" / "stores.md"

Kind = Callable[[Path], AbstractContextManager[str]]


@contextmanager
def embedded(home: Path) -> Iterator[str]:
    with EmbeddedStore(home) as url:
        yield url


@contextmanager
def valkey_tcp(home: Path) -> Iterator[str]:
    with Server(valkey_binary(), home) as server:
        yield server.url


@contextmanager
def valkey_acl(home: Path) -> Iterator[str]:
    """As the user that docs/stores.md creates."""
    with Server(valkey_binary(), home) as server:
        command_at(server.port, *acl_of_the_docs())
        yield f"redis://gov:PASSWORD@127.0.0.1:{server.port}"


@contextmanager
def redis_tcp(home: Path) -> Iterator[str]:
    with Server(_debians_redis(), home) as server:
        yield server.url


@contextmanager
def redis_unix(home: Path) -> Iterator[str]:
    address = home / "redis.sock"
    with Server(_debians_redis(), home, "--port", "0", "--unixsocket", str(address)):
        yield f"unix://{address}"


@contextmanager
def redis_tls(home: Path) -> Iterator[str]:
    """With a certificate of both sides."""
    binary, authority = _debians_redis(), trustme.CA()
    home.mkdir()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(home / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(home / "cert.pem")
    certificate.private_key_pem.write_to_path(home / "key.pem")
    files = ("--tls-ca-cert-file", "ca.pem"), ("--tls-cert-file", "cert.pem"), ("--tls-key-file", "key.pem")
    options = [word for option, name in files for word in (option, str(home / name))]
    server = Server(binary, home)
    with Server(binary, home, "--port", "0", "--tls-port", str(server.port), *options):
        yield (
            f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={home}/ca.pem"
            f"&ssl_certfile={home}/cert.pem&ssl_keyfile={home}/key.pem"
        )


@contextmanager
def valkey_cluster(home: Path) -> Iterator[str]:
    with cluster(home) as three:
        yield three.url


@contextmanager
def valkey_sentinel(home: Path) -> Iterator[str]:
    with watched(home) as pair:
        yield pair.url


OTHER_KINDS: dict[str, Kind] = {
    "valkey-tcp": valkey_tcp,
    "valkey-acl": valkey_acl,
    "redis-tcp": redis_tcp,
    "redis-unix": redis_unix,
    "redis-tls": redis_tls,
    "cluster": valkey_cluster,
    "sentinel": valkey_sentinel,
}
"""All but the embedded one."""

KINDS = {"embedded": embedded, **OTHER_KINDS}


def as_parameters() -> list[object]:
    """For fixtures: the embedded store always, the others where the mark `stores` is asked for."""
    return ["embedded", *(pytest.param(kind, marks=pytest.mark.stores) for kind in OTHER_KINDS)]


def administrator(url: str, *, decode_responses: bool = True) -> Any:
    """A synchronous client with all rights: for looking, for emptying, and for doing harm."""
    found = read_store_url(url)
    options = {"decode_responses": decode_responses}
    match found.kind:
        case "cluster":
            return sync_redis.RedisCluster(
                startup_nodes=[ClusterNode(*host) for host in found.hosts], **options
            )
        case "sentinel":
            return Sentinel(found.hosts).master_for(found.service, **options)
        case "server":
            return sync_redis.Redis.from_url(url.replace("gov:PASSWORD@", ""), **options)


def acl_of_the_docs() -> list[str]:
    """The words of the ACL command there."""
    found = re.search(r"ACL SETUSER gov (.+\\\n)+.+", DOCS.read_text())
    assert found is not None
    return found[0].replace("\\\n", " ").split()


def _debians_redis() -> Path:
    binary = redis_binary()
    if binary is None:
        pytest.skip(NEEDS_DEBIANS_REDIS)
    return binary
