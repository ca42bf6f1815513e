"""What the router of a host app takes for a governed route is governed, however the request is written."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from tests.sidecar.http_corpus import CASES, HOST, TOKEN, Case, request

from govmiddleware.app import Governance
from govmiddleware.cli.http_protocol import HttpProtocol
from govmiddleware.host import govern
from govmiddleware.settings import Settings
from govmiddleware.testing import RunningServer, serve_in_thread

ROUTES = ("/v1/chat/completions", "/v1/embeddings", "/team/chat/completions", "/sub/embeddings", "/jobs/run")


class Endpoint(HTTPEndpoint):
    """Dispatches by the method in lower case, whatever case it came in."""

    async def post(self, request: Request) -> Response:
        return dispatched(request)


def dispatched(request: Request) -> Response:
    return PlainTextResponse("dispatched")


@pytest.fixture(scope="module", params=[HttpProtocol, "httptools", "h11"], ids=["ours", "httptools", "h11"])
def server(
    request: pytest.FixtureRequest, gov_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A host app on a server, whose governance knows no API token."""
    governance = Governance(Settings(redis_url=gov_server, data_dir=tmp_path_factory.mktemp("host")))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with governance:
            yield

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/chat/completions", dispatched, methods=["POST"]),
            Route("/v1/embeddings", dispatched, methods=["POST"]),
            Route("/{team}/chat/completions", Endpoint),
            Mount("/sub", routes=[Route("/embeddings", dispatched, methods=["POST"])]),
            Route("/jobs/run", dispatched, methods=["POST"]),
        ],
    )
    governed: Any = govern(app, governance, paths=["/jobs/run"])
    with serve_in_thread(governed, http=request.param) as running:
        yield running


def answer(server: RunningServer, raw: bytes) -> bytes:
    last = request(b"GET / HTTP/1.1", HOST, b"Connection: close")
    received = b""
    with socket.create_connection((server.host, server.port), timeout=0.3) as connection:
        try:
            connection.sendall(raw + last)
            while more := connection.recv(65536):
                received += more
        except (ConnectionError, TimeoutError):
            pass  # it has said all that it will
    return received


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_stranger_reaches_it(server: RunningServer, case: Case) -> None:
    stranger = case.raw.replace(TOKEN, b"X-Nobody: 1")
    assert b"dispatched" not in answer(server, stranger)


@pytest.mark.parametrize("target", ROUTES)
@pytest.mark.parametrize("end", [b"", b"%0A", b"%0a?x", b"/", b"/%0A"])
def test_no_stranger_reaches_it_with_something_behind_the_path(
    server: RunningServer, target: str, end: bytes
) -> None:
    raw = request(b"POST " + target.encode() + end + b" HTTP/1.1", HOST, b"Content-Length: 2", body=b"{}")
    assert b"dispatched" not in answer(server, raw)


@pytest.mark.parametrize("method", [b"post", b"Post"])
def test_no_stranger_reaches_it_by_a_method_in_another_case(server: RunningServer, method: bytes) -> None:
    raw = request(method + b" /team/chat/completions HTTP/1.1", HOST, b"Content-Length: 2", body=b"{}")
    assert b"dispatched" not in answer(server, raw)
