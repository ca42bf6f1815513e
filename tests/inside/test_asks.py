"""An app whose `/ask` calls a provider through the official SDKs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import httpx
import openai
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.inside.books import read_books
from tests.inside.speaking import SAY, SCRIPT

from govmiddleware import GovernanceMiddleware, govern
from govmiddleware.testing import Script, serve_in_thread
from govmiddleware.testing.bell import Bell, Gate

DAY = {"name": "day", "scope": "user", "meter": "requests", "window": "day", "hard": 100}
MONTH = {"name": "month", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 1}
MODEL = {"name": "model", "scope": "model", "meter": "requests", "window": "day", "hard": 100}
SLOT = {"name": "slot", "scope": "api_token", "meter": "concurrency", "hard": 1}
ASYNC = "httpx2, asynchronous"
SYNC = "httpx2, synchronous"


def routes(**endpoints: Any) -> Starlette:
    return Starlette(routes=[Route(f"/{name}", each, methods=["POST"]) for name, each in endpoints.items()])


async def test_what_an_ask_calls_is_metered_for_who_asked(governance_with, provider, speaker_on, ask) -> None:
    governance = governance_with(limits=[DAY, MONTH, MODEL])
    speaker = speaker_on(ASYNC, governance.transport())

    async def endpoint(request: Request) -> Response:
        answer = await speaker.say(extra_headers={"x-gov-agent": "planner", "x-gov-tags": "step=2"})
        return JSONResponse({"answer": answer.choices[0].message.content})

    answer = await ask(
        govern(routes(ask=endpoint), governance, paths=["/ask"]), headers={"x-gov-tags": "team=a"}
    )
    assert answer.json() == {"answer": provider.script.text}
    inner, outer = await read_books(governance)
    assert inner["parent_request_id"] == outer["request_id"] == answer.headers["x-gov-request-id"]
    assert outer["parent_request_id"] is None
    assert (inner["protocol"], outer["protocol"]) == ("openai.chat", "unrecognised")
    assert (inner["settlement"], inner["cost_usd"], outer["cost_usd"]) == (
        "exact",
        "0.000020000",
        "0.000000000",
    )
    assert (inner["user"], inner["session"], inner["api_token"]) == ("ann", "s1", "ci")
    assert (inner["agent"], inner["tags"]) == ("planner", {"step": "2", "team": "a"})
    assert {name: amount for name, amount in inner["holds"].items() if amount} == {
        "user:cost_usd:month:ann": 20_000,
        "model:requests:day:m": 1,
    }
    assert {name: amount for name, amount in outer["holds"].items() if amount} == {"user:requests:day:ann": 1}


async def test_pinned_attribution_binds_inner_calls_too(governance_with, speaker_on, ask) -> None:
    governance = governance_with(attribution="pinned")
    speaker = speaker_on(ASYNC, governance.transport())

    async def endpoint(request: Request) -> Response:
        await speaker.say(extra_headers={"x-gov-user": "bob"}, user="bob")
        return Response()

    await ask(govern(routes(ask=endpoint), governance, paths=["/ask"]))
    assert [record["user"] for record in await read_books(governance)] == ["anonymous", "anonymous"]


async def test_an_ask_is_one_request_and_takes_one_slot_whatever_it_calls(
    governance_with, speaker_on, ask
) -> None:
    governance = governance_with(limits=[DAY | {"hard": 2}, SLOT, MODEL])
    speaker = speaker_on(ASYNC, governance.transport())

    async def endpoint(request: Request) -> Response:
        await asyncio.gather(*(speaker.say() for _ in range(3)))
        return Response("done")

    app = govern(routes(ask=endpoint), governance, paths=["/ask"])
    assert [(await ask(app)).status_code for _ in range(3)] == [200, 200, 429]
    counted: Counter[str] = Counter()
    for record in await read_books(governance):
        counted.update(record["holds"])
    assert counted == {
        "model:requests:day:m": 6,
        "user:requests:day:ann": 2,
        "api_token:concurrency:now:ci": 0,
    }


async def test_a_limit_on_a_user_per_model_counts_each_inner_call(governance_with, speaker_on, ask) -> None:
    governance = governance_with(limits=[MODEL | {"scope": ["user", "model"], "hard": 2}])
    speaker = speaker_on(ASYNC, governance.transport())

    async def endpoint(request: Request) -> Response:
        await speaker.say()
        return Response()

    app = govern(routes(ask=endpoint), governance, paths=["/ask"])
    assert [(await ask(app)).status_code for _ in range(2)] == [200, 200]
    with pytest.raises(openai.RateLimitError, match="user\\+model"):
        await ask(app)


async def test_what_goes_on_after_the_answer_takes_a_slot_of_its_own(
    governance_with, provider, speaker_on, ask
) -> None:
    governance = governance_with(limits=[SLOT, DAY])
    speaker = speaker_on(ASYNC, governance.transport())
    gate = provider.script = Script(gate=Gate())
    answered, tasks = asyncio.Event(), []

    async def go_on() -> None:
        await answered.wait()
        await speaker.say()

    async def endpoint(request: Request) -> Response:
        tasks.append(asyncio.create_task(go_on()))
        return Response()

    app = govern(routes(ask=endpoint), governance, paths=["/ask"])
    assert (await ask(app)).status_code == 200
    answered.set()
    await provider.until(lambda: len(provider.exchanges) == 1)
    assert (await ask(app)).status_code == 429
    assert gate.gate is not None
    gate.gate.open()
    await tasks[0]
    outer, _, inner = await read_books(governance)
    assert inner["parent_request_id"] == outer["request_id"]
    assert "user:requests:day:ann" not in inner["holds"], "it belongs to a request that was counted"


async def test_parallel_calls_stay_within_the_budget(governance_with, provider, speaker_on, ask) -> None:
    governance = governance_with(limits=[MONTH | {"meter": "output_tokens", "hard": 500}])
    speaker = speaker_on(ASYNC, governance.transport())
    provider.script = Script(usage={"prompt_tokens": 30, "completion_tokens": 100, "total_tokens": 130})

    async def endpoint(request: Request) -> Response:
        answers = await asyncio.gather(*(speaker.say() for _ in range(20)), return_exceptions=True)
        return JSONResponse(sorted(type(answer).__name__ for answer in answers))

    answer = await ask(govern(routes(ask=endpoint), governance, paths=["/ask"]))
    assert Counter(answer.json()) == {"ChatCompletion": 5, "RateLimitError": 15}
    assert len(provider.exchanges) == 5
    kinds = Counter(record["kind"] for record in await read_books(governance))
    assert kinds["outcome"] == 6


async def test_a_refusal_reaches_the_app_as_the_providers_and_the_journal_as_the_calls(
    governance_with, provider, speaker_on, ask
) -> None:
    governance = governance_with(limits=[MONTH | {"hard": 0}, DAY])
    speaker = speaker_on(ASYNC, governance.transport())

    async def endpoint(request: Request) -> Response:
        try:
            await speaker.say()
        except openai.RateLimitError as refused:
            return JSONResponse({"sorry": refused.code}, 402)
        raise AssertionError("it had to be refused")

    answer = await ask(govern(routes(ask=endpoint), governance, paths=["/ask"]))
    assert (answer.status_code, answer.json()) == (402, {"sorry": "insufficient_quota"})
    assert provider.exchanges == []
    records = {record["kind"]: record for record in await read_books(governance)}
    assert records["refusal"]["parent_request_id"] == records["outcome"]["request_id"]
    assert records["outcome"]["holds"]["user:requests:day:ann"] == 1


async def test_synchronous_endpoints_use_synchronous_clients(
    governance_with, provider, speaker_on, ask
) -> None:
    governance = governance_with(limits=[DAY, MONTH])
    client = speaker_on(SYNC, governance.transport()).client
    app = fastapi.FastAPI()

    @app.post("/ask")
    def endpoint() -> dict[str, Any]:
        with client.chat.completions.create(**SAY, stream=True) as stream:
            return {"answer": "".join(chunk.choices[0].delta.content or "" for chunk in stream)}

    answer = await ask(govern(app, governance, paths=["/ask"]))
    assert answer.json() == {"answer": provider.script.text}
    inner, outer = await read_books(governance)
    assert inner["parent_request_id"] == outer["request_id"]
    assert (inner["settlement"], inner["user"]) == ("exact", "ann")


async def test_a_synchronous_endpoint_that_comes_first_opens_the_governance_on_the_apps_loop(
    governance_with, speaker_on, ask
) -> None:
    governance = governance_with()
    client = speaker_on(SYNC, governance.transport(principal=SCRIPT)).client
    app = fastapi.FastAPI()

    @app.post("/report")
    @app.post("/ask")
    def endpoint() -> None:
        client.chat.completions.create(**SAY)

    governed = govern(app, governance, paths=["/ask"])
    for path in ("/report", "/ask"):
        assert (await ask(governed, path)).status_code == 200
    tokens = [record["api_token"] for record in await read_books(governance)]
    assert tokens == ["nightly", "ci", "ci"], "the request's principal goes before the script's"


async def test_a_streaming_ask_that_its_client_leaves_is_charged_what_was_delivered(
    make_governance, provider, provider_url
) -> None:
    from tests.inside.conftest import settings

    gate, bell, ended = Gate(), Bell(), []
    provider.script = Script(gate=gate)
    governance = make_governance(**settings(limits=[MONTH]))
    http = openai.DefaultAsyncHttpxClient(transport=governance.transport())
    client = openai.AsyncOpenAI(base_url=f"{provider_url}/v1", api_key="sk-provider", http_client=http)

    async def texts() -> AsyncIterator[str]:
        stream = await client.chat.completions.create(**SAY, stream=True)
        async for chunk in stream:
            yield (chunk.choices[0].delta.content or "") + "\n"

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(texts())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await govern(routes(ask=endpoint), governance, paths=["/ask"])(scope, receive, send)
        finally:
            if scope["type"] == "http":
                await governance.close()
                ended.append(scope["path"])
                bell.ring()

    gate.let(3)
    token = {"authorization": "Bearer open sesame"}
    with serve_in_thread(app) as server:
        async with (
            httpx.AsyncClient(base_url=server.url) as browser,
            browser.stream("POST", "/ask", headers=token) as answer,
        ):
            lines = answer.aiter_lines()
            assert [await anext(lines) for _ in range(2)]
        await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
        await bell.until(lambda: bool(ended))
    await client.close()
    inner = next(r for r in await read_books(make_governance()) if r["protocol"] == "openai.chat")
    assert (inner["settlement"], inner["outcome"]) == ("aborted", "aborted")
    assert 0 < inner["usage"]["output_tokens"] < 9


async def test_an_app_that_answers_model_calls_by_model_calls_is_charged_once(
    governance_with, provider, speaker_on, ask
) -> None:
    """Its own answer may report what it likes: what its calls used is charged with them."""
    governance = governance_with(limits=[MONTH, DAY, MODEL])
    speaker = speaker_on(ASYNC, governance.transport())

    async def endpoint(request: Request) -> Response:
        answers = [await speaker.say() for _ in range(2)]
        usage = {"prompt_tokens": 4, "completion_tokens": 18, "total_tokens": 22}
        return JSONResponse(
            {"choices": [{"message": answers[1].choices[0].message.model_dump()}], "usage": usage}
        )

    path = "/v1/chat/completions"
    app = Starlette(routes=[Route(path, endpoint, methods=["POST"])])
    assert (await ask(govern(app, governance), path, json=SAY)).status_code == 200
    *inner, outer = await read_books(governance)
    assert [record["cost_usd"] for record in inner] == ["0.000020000"] * 2
    assert (outer["cost_usd"], outer["settlement"]) == ("0.000000000", "exact")
    requests = {"user:requests:day:ann": [None, None, 1], "model:requests:day:m": [1, 1, 0]}
    for counter, counted in requests.items():
        assert [record["holds"].get(counter) for record in (*inner, outer)] == counted


async def test_a_refusal_that_escapes_the_endpoint_is_the_answer(governance_with, ask) -> None:
    governance = governance_with(limits=[MONTH | {"hard": 0}])

    async def endpoint(request: Request) -> Response:
        async with governance.call("m", texts=["Say hello."], max_output_tokens=10):
            raise AssertionError("it had to be refused")

    app = routes(ask=endpoint)
    app.add_middleware(GovernanceMiddleware, governance=governance, paths=["/ask"])
    answer = await ask(app)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    records = {record["kind"]: record for record in await read_books(governance)}
    assert records["refusal"]["parent_request_id"] == records["outcome"]["request_id"]
    assert records["outcome"]["cost_usd"] == "0.000000000"


async def test_background_tasks_call_for_the_request_that_started_them(
    governance_with, speaker_on, ask
) -> None:
    governance = governance_with()
    speaker = speaker_on(ASYNC, governance.transport())

    async def endpoint(request: Request) -> Response:
        return Response(background=BackgroundTask(speaker.say))

    await ask(govern(routes(ask=endpoint), governance, paths=["/ask"]))
    inner, outer = await read_books(governance)
    assert inner["parent_request_id"] == outer["request_id"]
