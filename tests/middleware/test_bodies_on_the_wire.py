"""What only a real server shows of bodies: interim answers, closed connections, trailers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from govmiddleware.cli.http_protocol import HttpProtocol
from govmiddleware.core import ids
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import RunningServer, ScriptedProvider, serve_in_thread

BODY = json.dumps(
    {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}
).encode()
TOKEN = b"authorization: Bearer open sesame\r\n"


@pytest.fixture(params=[HttpProtocol, "h11"], ids=["ours", "h11"])
def sidecar(request, make_governance, gov_provider) -> Iterator[RunningServer]:
    token = {"name": "ci", "workspace": "acme", "sha256": ids.hash_api_token("open sesame")}
    governance = make_governance(upstream=gov_provider[1], api_tokens=[token], body_timeout=0.2)
    with serve_in_thread(Sidecar(governance), http=request.param) as server:
        yield server


class Wire:
    """A connection on which everything is said by hand."""

    def __init__(self, server: RunningServer) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=5)

    def say(self, text: bytes) -> None:
        self.socket.sendall(text)

    def head(self) -> bytes:
        """Up to the next empty line."""
        found = b""
        while not found.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            if not byte:
                break
            found += byte
        return found

    def rest(self) -> bytes:
        """Until the server closes, or resets because of what it did not read."""
        found = b""
        try:
            while more := self.socket.recv(65536):
                found += more
        except ConnectionResetError:
            pass
        return found


@pytest.fixture
def dial(sidecar: RunningServer) -> Iterator[Callable[[], Wire]]:
    wires: list[Wire] = []

    def make() -> Wire:
        wires.append(Wire(sidecar))
        return wires[-1]

    yield make
    for wire in wires:
        wire.socket.close()


def request(*headers: bytes) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: gov\r\n" + b"".join(headers) + b"\r\n"


LENGTH = b"content-length: %d\r\n" % len(BODY)
EXPECT = b"expect: 100-continue\r\n"


def test_a_stranger_who_asks_to_go_on_is_answered_at_once_and_hung_up_on(dial, gov_provider) -> None:
    wire = dial()
    wire.say(request(LENGTH, EXPECT))
    head = wire.head()
    assert head.startswith(b"HTTP/1.1 401 "), "and no 100 before it"
    assert b"connection: close" in head.lower()
    assert b"invalid_api_key" in wire.rest(), "which ends: the server has closed"
    assert gov_provider[0].exchanges == []


def test_who_has_a_token_is_told_to_go_on_and_answered(dial, gov_provider) -> None:
    wire = dial()
    wire.say(request(LENGTH, EXPECT, TOKEN, b"connection: close\r\n"))
    assert wire.head().startswith(b"HTTP/1.1 100 ")
    wire.say(BODY)
    assert wire.head().startswith(b"HTTP/1.1 200 ")
    assert b'"chat.completion"' in wire.rest()
    assert gov_provider[0].exchanges[0].header(b"expect") is None


def test_a_body_over_the_bound_that_was_only_announced_is_never_asked_for(dial) -> None:
    wire = dial()
    wire.say(request(b"content-length: 999999999\r\n", EXPECT, TOKEN))
    assert wire.head().startswith(b"HTTP/1.1 413 ")
    wire.rest()


def test_after_an_early_refusal_the_connection_serves_the_next_request(dial) -> None:
    wire = dial()
    wire.say(request(LENGTH) + BODY)
    head = wire.head()
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" not in head.lower()
    wire.say(request(LENGTH, TOKEN, b"connection: close\r\n") + BODY)
    assert b"HTTP/1.1 200 " in wire.rest()


def test_a_body_that_stalls_is_answered_in_time(dial) -> None:
    wire = dial()
    wire.say(request(LENGTH, TOKEN) + BODY[:5])
    assert wire.head().startswith(b"HTTP/1.1 408 ")


def test_trailers_of_a_request_are_not_sent_on(dial, gov_provider) -> None:
    wire = dial()
    wire.say(
        request(b"transfer-encoding: chunked\r\ntrailer: x-gov-user\r\nconnection: close\r\n", TOKEN)
        + b"%x\r\n%s\r\n0\r\nx-gov-user: eve\r\nauthorization: Bearer other\r\n\r\n" % (len(BODY), BODY)
    )
    assert wire.head().startswith(b"HTTP/1.1 200 ")
    wire.rest()
    [exchange] = gov_provider[0].exchanges
    assert not {b"trailer", b"transfer-encoding", b"x-gov-user", b"authorization"} & {
        name for name, _ in exchange.headers
    }
    assert exchange.header(b"content-length") == b"%d" % len(exchange.raw_body)


UPGRADE = (
    b"connection: upgrade, http2-settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
)
"""What Java's HttpClient asks for with every first request."""


@pytest.mark.parametrize("size", [len(BODY), 9], ids=["at once", "in pieces"])
def test_an_upgrade_to_h2c_is_ignored_and_the_body_behind_it_is_no_request(dial, gov_provider, size) -> None:
    wire = dial()
    wire.say(request(UPGRADE, LENGTH, TOKEN))
    for start in range(0, len(BODY), size):
        wire.say(BODY[start : start + size])
    assert wire.head().startswith(b"HTTP/1.1 200 ")
    wire.rest()
    [exchange] = gov_provider[0].exchanges
    assert json.loads(exchange.raw_body) == json.loads(BODY)
    assert not {b"upgrade", b"http2-settings"} & {name for name, _ in exchange.headers}


def test_who_hangs_up_in_the_body_takes_nothing_upstream(dial, gov_provider) -> None:
    provider: ScriptedProvider = gov_provider[0]
    wire = dial()
    wire.say(request(LENGTH, TOKEN) + BODY[:5])
    wire.socket.close()
    after = dial()
    after.say(request(LENGTH, TOKEN, b"connection: close\r\n") + BODY)
    assert b"HTTP/1.1 200 " in after.rest()
    assert len(provider.exchanges) == 1


def test_answers_name_our_request_and_no_server(dial) -> None:
    wire = dial()
    wire.say(request(LENGTH, TOKEN, b"connection: close\r\n") + BODY)
    answer: Any = dict(
        line.lower().split(b": ", 1) for line in wire.head().split(b"\r\n")[1:] if b": " in line
    )
    assert answer[b"x-gov-request-id"].startswith(b"req_")
    assert answer[b"x-gov-estimated-cost-usd"].count(b".") == 1
    assert b"server" not in answer
