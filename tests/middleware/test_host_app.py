"""Inside an app that was there before: only what is to be governed is, everything else passes untouched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.host import GovernanceMiddleware, govern
from govmiddleware.testing import serve_in_thread
from govmiddleware.testing.bell import Bell

BODY = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 100}
DAY = {"name": "day", "scope": "api_token", "meter": "requests", "window": "day", "hard": 100}
MONTH = {"name": "month", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 1}
TOKEN = {"authorization": "Bearer open sesame"}


async def complete(request: Request) -> Response:
    body = await request.json()
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return JSONResponse({"object": "chat.completion", "model": body["model"], "choices": [], "usage": usage})


async def crash(request: Request) -> Response:
    await request.body()
    raise RuntimeError("the app's own mistake")


async def never_reads(request: Request) -> Response:
    return PlainTextResponse("done")


async def echo(request: Request) -> Response:
    return Response(await request.body(), headers={"x-seen": str("gov" in request.scope.get("state", {}))})


def host(governance: Governance | None = None, **routes: Any) -> Starlette:
    """An app with these endpoints, each at `/NAME/chat/completions`; its lifespan opens the governance, if given."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with governance or nullcontext():
            yield

    paths = {"/v1/chat/completions": complete, "/echo": echo, "/jobs/run": echo} | {
        f"/{name}/chat/completions": endpoint for name, endpoint in routes.items()
    }
    return Starlette(
        routes=[Route(path, endpoint, methods=["POST"]) for path, endpoint in paths.items()],
        lifespan=lifespan,
    )


# Which requests -----------------------------------------------------------------------------------


async def test_added_as_middleware_and_wrapped_around_it_is_the_same(governed, post) -> None:
    governance = await governed()
    app = host()
    app.add_middleware(GovernanceMiddleware, governance=governance)
    for governed_app in (app, govern(host(), governance)):
        assert (await post(governed_app, secret=None)).status_code == 401
        answer = await post(governed_app)
        assert answer.status_code == 200
        assert answer.headers["x-gov-request-id"].startswith("req_")


async def test_whatever_no_protocol_recognises_passes_untouched(governed, post) -> None:
    governance = await governed()
    app = govern(host(), governance)
    answer = await post(app, secret=None, path="/echo", content=b"\x00\xff")
    assert (answer.status_code, answer.content) == (200, b"\x00\xff")
    assert answer.headers["x-seen"] == "False"
    assert "x-gov-request-id" not in answer.headers
    assert (await post(app, secret=None, path="/nowhere")).status_code == 404


async def test_a_protocols_route_is_governed_under_any_prefix(governed, post) -> None:
    governance = await governed()
    app = govern(host(team=complete), governance)
    assert (await post(app, secret=None, path="/team/chat/completions")).status_code == 401
    assert (await post(app, path="/team/chat/completions")).status_code == 200


async def test_listed_paths_are_governed_by_requests_with_their_body_unread(governed, post, journal) -> None:
    governance = await governed(limits=[DAY | {"hard": 1}, MONTH | {"hard": 0}])
    app = govern(host(), governance, paths=["/jobs/*"])
    assert (await post(app, secret=None, path="/jobs/run")).status_code == 401
    answer = await post(app, path="/jobs/run", content=b"no JSON")
    assert (answer.status_code, answer.content) == (200, b"no JSON")
    assert "x-gov-estimated-cost-usd" not in answer.headers
    assert (await post(app, path="/jobs/run")).status_code == 429
    outcome, refusal = await journal(governance)
    assert (outcome["kind"], outcome["cost_usd"], outcome["protocol"]) == (
        "outcome",
        "0.000000000",
        "unrecognised",
    )
    assert refusal["kind"] == "refusal"


async def test_paths_in_one_string_are_a_mistake_that_is_told(governed) -> None:
    from govmiddleware.errors import ConfigurationError

    governance = await governed()
    with pytest.raises(ConfigurationError, match=r"\['/jobs/\*'\]"):
        govern(host(), governance, paths="/jobs/*")


async def test_ungoverned_bodies_stay_unread_and_scopes_unchanged(governed) -> None:
    governance = await governed()
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    async def receive() -> Any:
        raise AssertionError("nobody asked")

    async def send(message: Any) -> None:
        raise AssertionError("nobody answers")

    scopes: list[Any] = [
        {"type": "http", "method": "POST", "path": "/other", "headers": []},
        {"type": "http", "method": "GET", "path": "/v1/chat/completions", "headers": []},
        {"type": "websocket", "path": "/v1/chat/completions", "headers": []},
        {"type": "lifespan"},
        {"type": "something new"},
    ]
    for scope in scopes:
        before = dict(scope)
        await govern(app, governance, paths=["/governed"])(scope, receive, send)
        assert seen.pop() == (scope, receive, send)
        assert scope == before


def test_websockets_and_lifespans_of_the_app_work_as_before(make_governance) -> None:
    happened: list[str] = []

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        happened.append("up")
        yield
        happened.append("down")

    app = Starlette(routes=[WebSocketRoute("/ws", socket)], lifespan=asynccontextmanager(lifespan))
    app.add_middleware(GovernanceMiddleware, governance=make_governance(), paths=["/*"])
    with TestClient(app) as client, client.websocket_connect("/ws") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"
    assert happened == ["up", "down"]


# Opening ------------------------------------------------------------------------------------------


async def test_the_first_governed_request_opens_the_governance(make_governance, post, journal) -> None:
    token = {"name": "ci", "workspace": "acme", "sha256": ids.hash_api_token("open sesame")}
    governance = make_governance(api_tokens=[token], prices=[{"model": "m", "same_as": "gpt-4o"}])
    app = govern(host(), governance)
    await post(app, path="/echo")
    assert not governance._is_open
    answers = await asyncio.gather(*(post(app) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert governance._is_open
    assert len(await journal(governance)) == 3
    assert (await post(app)).status_code == 200, "closed, it opens again"
    await governance.close()


async def test_opening_and_closing_twice_is_the_same_as_once(make_governance) -> None:
    governance = make_governance()
    await governance.close()
    await governance.open()
    await governance.open()
    assert await governance.readiness() == []
    await governance.close()
    await governance.close()


# Apps that misbehave ------------------------------------------------------------------------------


def added(app: Starlette, governance: Governance) -> Starlette:
    app.add_middleware(GovernanceMiddleware, governance=governance)
    return app


@pytest.mark.parametrize("around", [added, govern], ids=["inside Starlette's error page", "outside it"])
async def test_an_exception_of_the_app_settles_as_reserved_and_then_propagates(
    governed, post, journal, around
) -> None:
    governance = await governed(limits=[DAY, MONTH])
    app = around(host(broken=crash), governance)
    with pytest.raises(RuntimeError, match="the app's own mistake"):
        await post(app, path="/broken/chat/completions")
    [record] = await journal(governance)
    assert record["settlement"] == "aborted"
    assert record["cost_usd"] == record["bound"]["cost_usd"] > "0"
    assert record["usage"]["output_tokens"] == 100


async def test_an_app_that_never_reads_the_body_is_governed_all_the_same(governed, post, journal) -> None:
    governance = await governed(limits=[DAY])
    answer = await post(govern(host(lazy=never_reads), governance), path="/lazy/chat/completions")
    assert (answer.status_code, answer.text) == (200, "done")
    [record] = await journal(governance)
    assert record["kind"] == "outcome"
    assert record["usage"]["input_tokens"] > 0


async def test_an_error_the_app_answers_with_costs_nothing_but_the_request(governed, post, journal) -> None:
    async def sorry(request: Request) -> Response:
        return JSONResponse({"error": "no"}, 503)

    governance = await governed(limits=[DAY, MONTH])
    assert (
        await post(govern(host(sorry=sorry), governance), path="/sorry/chat/completions")
    ).status_code == 503
    [record] = await journal(governance)
    assert (record["cost_usd"], record["outcome"]) == ("0.000000000", "upstream_error")
    assert sorted(record["holds"].values()) == [0, 1]


async def test_an_app_that_raises_after_its_answer_began_breaks_off_and_is_settled(governed, journal) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")

    governance = await governed()
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps(BODY).encode()}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer open sesame")],
    }
    with pytest.raises(RuntimeError, match="in the middle"):
        await govern(half, governance)(scope, receive, send)
    assert sent == ["http.response.start"], "no second answer"
    [record] = await journal(governance)
    assert record["settlement"] == "aborted"


async def test_a_refusal_that_the_app_raises_is_answered_for_it(governed, post, journal) -> None:
    from govmiddleware.core.refusals import Forbidden

    async def forbid(scope: Any, receive: Any, send: Any) -> None:
        raise Forbidden("not on a Sunday")

    governance = await governed(limits=[DAY])
    answer = await post(govern(forbid, governance))
    assert (answer.status_code, answer.json()["error"]["message"]) == (403, "not on a Sunday")


@pytest.fixture
def streaming() -> Any:
    """A Starlette app that streams for ever, and the bell that rings at each chunk and at its end."""

    class Streaming:
        def __init__(self) -> None:
            self.bell, self.chunks, self.ended = Bell(), 0, False

        async def events(self) -> AsyncIterator[bytes]:
            event = {"model": "m", "choices": [{"index": 0, "delta": {"content": "hello "}}]}
            try:
                while True:
                    yield b"data: " + json.dumps(event).encode() + b"\n\n"
                    self.chunks += 1
                    self.bell.ring()
                    await asyncio.sleep(0.001)
            finally:
                self.ended = True
                self.bell.ring()

        async def endpoint(self, request: Request) -> Response:
            await request.body()
            return StreamingResponse(self.events(), media_type="text/event-stream")

    return Streaming()


async def test_a_stream_that_the_client_leaves_is_settled_at_what_was_delivered(
    make_governance, streaming, settled: Callable[..., Any]
) -> None:
    token = {"name": "ci", "workspace": "acme", "sha256": ids.hash_api_token("open sesame")}
    price = {"model": "m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "max_output_tokens": 10**6}
    settings = {"api_tokens": [token], "prices": [price], "limits": [DAY, MONTH | {"hard": 1000}]}
    governance: Governance = make_governance(**settings)
    with serve_in_thread(govern(host(governance, stream=streaming.endpoint), governance)) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            path = "/stream/chat/completions"
            body = BODY | {"stream": True, "max_tokens": None}
            async with http.stream("POST", path, json=body, headers=TOKEN) as answer:
                assert answer.status_code == 200
                await streaming.bell.until(lambda: streaming.chunks > 5)
        await streaming.bell.until(lambda: streaming.ended)
        [record] = await settled(make_governance(**settings), 1)
    assert (record["settlement"], record["outcome"]) == ("aborted", "aborted")
    assert 0 < record["usage"]["output_tokens"] < 10**5
    assert record["cost_usd"] < record["bound"]["cost_usd"]


@pytest.fixture
def settled(journal: Callable[..., Any]) -> Callable[..., Any]:
    """The records of workspace acme, read on a Governance of its own as soon as there are so many."""

    async def read(governance: Governance, count: int) -> Any:
        async with asyncio.timeout(5):
            while len(records := await journal(governance)) < count:
                await asyncio.sleep(0.01)
        return records

    return read
