"""Several upstreams behind one sidecar, with the real openai SDK in front."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, TOKEN, RunningSidecar
from tests.sidecar.waiting import until

import govmiddleware.sidecar
from govmiddleware.app import Governance
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import Script, ScriptedProvider, serve_in_thread
from govmiddleware.testing.bell import Gate
from govmiddleware.upstream import open_client

HEADERS = {"authorization": f"Bearer {SECRET}"}
MODELS = {"openai": "gpt-4o", "anthropic": "claude-opus-4-1", "local": "llama-3"}
"""One model of each upstream."""

LLAMA = {"model": "llama-3", "same_as": "gpt-4o-mini"}
"""Its price."""

KEYS = {"openai": "sk-openai-key", "anthropic": "sk-anthropic-key"}
"""The local one wants none."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A sidecar, and the providers behind it by the names of their upstreams."""

    sidecar: RunningSidecar
    openai: ScriptedProvider
    anthropic: ScriptedProvider
    local: ScriptedProvider

    def provider(self, name: str) -> ScriptedProvider:
        found: ScriptedProvider = getattr(self, name)
        return found

    def reached(self) -> dict[str, int]:
        """How many requests came to each."""
        return {name: len(self.provider(name).exchanges) for name in MODELS}

    def ask(self, model: str) -> Any:
        with self.sidecar.client(max_retries=0, timeout=20) as client:
            return client.chat.completions.create(**_chat(model))

    def statuses(self, models: list[str]) -> list[int]:
        """What each is answered, all asked at once."""
        return asyncio.run(_statuses(f"{self.sidecar.url}/v1", models))


def _chat(model: str) -> Any:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}


async def _statuses(base_url: str, models: list[str]) -> list[int]:
    async with openai.AsyncOpenAI(base_url=base_url, api_key=SECRET, max_retries=0, timeout=30) as client:

        async def ask(model: str) -> int:
            try:
                await client.chat.completions.create(**_chat(model))
            except openai.APIStatusError as error:
                return error.status_code
            return 200

        return await asyncio.gather(*(ask(model) for model in models))


@pytest.fixture(params=["aiohttp", "httpx"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP client of every sidecar of the test."""
    opened = functools.partial(open_client, library=request.param)
    monkeypatch.setattr(govmiddleware.sidecar, "open_client", opened)


class Place:
    """Where a provider is served; each test has a fresh one there."""

    def __init__(self) -> None:
        self.provider = ScriptedProvider()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.provider(scope, receive, send)


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, tuple[Place, str]]]:
    with ExitStack() as running:
        places = {name: Place() for name in MODELS}
        yield {
            name: (place, running.enter_context(serve_in_thread(place)).url) for name, place in places.items()
        }


@pytest.fixture
def run_fleet(
    run_sidecar: Callable[..., RunningSidecar],
    places: dict[str, tuple[Place, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Fleet]:
    """Starts a fleet; keywords with the name of an upstream add to its settings, others to the deployment's."""
    monkeypatch.setenv("THE_OPENAI_KEY", KEYS["openai"])

    def run(**settings: Any) -> Fleet:
        upstreams: list[dict[str, Any]] = [
            {"name": "openai", "models": ["gpt-4*", "o?"], "api_key_env": "THE_OPENAI_KEY"},
            {"name": "anthropic", "models": ["claude-*"], "api_key": KEYS["anthropic"]},
            {"name": "local", "models": ["llama-*", "gpt-*"]},
        ]
        for upstream in upstreams:
            name = upstream["name"]
            place, url = places[name]
            place.provider = ScriptedProvider(api_key=KEYS.get(name))
            upstream |= {"url": url, **settings.pop(name, {})}
        given = {"upstream": None, "upstream_api_key": None, "upstreams": upstreams, "prices": [LLAMA]}
        sidecar = run_sidecar(**given, **settings)
        return Fleet(sidecar, *(places[name][0].provider for name in MODELS))

    return run


Run = Callable[..., Fleet]
BOTH = pytest.mark.usefixtures("library")


# Which one ----------------------------------------------------------------------------------------


@BOTH
def test_a_call_goes_to_the_first_upstream_that_takes_its_model(run_fleet: Run, gov_store: str) -> None:
    fleet = run_fleet()
    for model in ("gpt-4o-mini", "gpt-5", "claude-opus-4-1", "o3", "llama-3", "gpt-4.1"):
        assert fleet.ask(model).model == model
    asked = {
        name: [each.body["model"] for each in fleet.provider(name).exchanges if each.body] for name in MODELS
    }
    assert asked == {
        "openai": ["gpt-4o-mini", "o3", "gpt-4.1"],
        "anthropic": ["claude-opus-4-1"],
        "local": ["gpt-5", "llama-3"],
    }
    books = Books(gov_store)
    assert Counter(record.provider for record in books.records()) == {"openai": 3, "anthropic": 1, "local": 2}
    assert books.audit().ok


@BOTH
def test_a_stream_goes_the_same_way(run_fleet: Run) -> None:
    fleet = run_fleet()
    with fleet.sidecar.client() as client:
        chunks = client.chat.completions.create(**_chat("claude-opus-4-1"), stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "The quick brown fox jumps over the lazy dog."
    assert fleet.reached() == {"openai": 0, "anthropic": 1, "local": 0}


def test_what_names_no_model_goes_to_the_first(run_fleet: Run) -> None:
    fleet = run_fleet(unmetered_routes="forward")
    with fleet.sidecar.client() as client:
        assert client.models.list().data
    assert httpx.post(f"{fleet.sidecar.url}/v1/files", headers=HEADERS).status_code == 404
    assert fleet.reached() == {"openai": 2, "anthropic": 0, "local": 0}


def test_a_model_that_no_upstream_takes_is_not_found_and_sent_nowhere(run_fleet: Run, gov_store: str) -> None:
    limits = [{"name": "one", "scope": "api_token", "meter": "requests", "window": "day", "hard": 1}]
    fleet = run_fleet(limits=limits)
    with pytest.raises(openai.NotFoundError) as refused:
        fleet.ask("gemini-2.5-pro")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert fleet.reached() == {"openai": 0, "anthropic": 0, "local": 0}
    assert fleet.ask("gpt-4o").model == "gpt-4o", "nothing was counted"
    assert len(Books(gov_store).records()) == 1


# Credentials --------------------------------------------------------------------------------------


@BOTH
def test_each_upstream_sees_its_own_credential_and_no_other(run_fleet: Run) -> None:
    fleet = run_fleet()
    assert fleet.statuses([*MODELS.values()] * 10) == [200] * 30
    for name in MODELS:
        [credential] = {each.header(b"authorization") for each in fleet.provider(name).exchanges}
        assert credential == (f"Bearer {KEYS[name]}".encode() if name in KEYS else None)
        for other in {*KEYS.values(), SECRET} - {KEYS.get(name)}:
            for exchange in fleet.provider(name).exchanges:
                assert other.encode() not in b"".join(value for _, value in exchange.headers)


def test_one_upstream_may_see_the_clients_credential_while_the_others_see_theirs(run_fleet: Run) -> None:
    fleet = run_fleet(local={"auth": "forward"})
    for model in MODELS.values():
        fleet.ask(model)
    credentials = [fleet.provider(name).exchanges[0].header(b"authorization") for name in MODELS]
    assert credentials == [b"Bearer sk-openai-key", b"Bearer sk-anthropic-key", f"Bearer {SECRET}".encode()]


# Limits -------------------------------------------------------------------------------------------


def test_limits_on_providers_bite_exactly_under_concurrency(run_fleet: Run, gov_store: str) -> None:
    each = {"name": "each", "scope": "provider", "meter": "requests", "rate": "10/minute"}
    one = each | {"name": "local", "value": "local", "rate": "4/minute"}
    fleet = run_fleet(limits=[each, one])
    models = [*MODELS.values()] * 20
    answers = Counter(zip(models, fleet.statuses(models), strict=True))
    assert answers == {
        ("gpt-4o", 200): 10,
        ("gpt-4o", 429): 10,
        ("claude-opus-4-1", 200): 10,
        ("claude-opus-4-1", 429): 10,
        ("llama-3", 200): 4,
        ("llama-3", 429): 16,
    }
    assert fleet.reached() == {"openai": 10, "anthropic": 10, "local": 4}
    assert Books(gov_store).audit().ok


def test_slots_of_a_provider_are_taken_by_its_own_calls_alone(
    run_fleet: Run, gov_store: str, background: ThreadPoolExecutor
) -> None:
    slots = {"name": "slots", "scope": "provider", "value": "local", "meter": "concurrency", "hard": 3}
    fleet = run_fleet(limits=[slots])
    fleet.local.script = Script(gate=(gate := Gate()))
    asked = background.submit(fleet.statuses, ["llama-3"] * 8)
    until(lambda: len(Books(gov_store).records("refusal")) == 5)
    assert fleet.reached()["local"] == 3
    assert fleet.statuses(["gpt-4o"] * 8) == [200] * 8
    gate.open()
    assert Counter(asked.result()) == {200: 3, 429: 5}


def test_usage_is_told_by_provider(run_fleet: Run) -> None:
    fleet = run_fleet(
        limits=[{"name": "day", "scope": "provider", "meter": "requests", "window": "day", "hard": 9}]
    )
    fleet.statuses(["gpt-4o", "gpt-4o", "llama-3"])
    usage = httpx.get(f"{fleet.sidecar.url}/gov/api/v1/usage/providers", headers=HEADERS).json()
    assert {group["id"]: group["requests"] for group in usage["groups"]} == {"openai": 2, "local": 1}
    assert {state["value"]: state["remaining"] for state in usage["limits"]} == {"openai": 7, "local": 8}


# Upstreams that hang ------------------------------------------------------------------------------


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Where calls are made that take as long as the test says."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def unanswering() -> Iterator[socket.socket]:
    """A listener to which no connection comes about: its queue is full, and Linux drops what comes then."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for other in (first, second):
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        yield listener


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@BOTH
def test_an_upstream_that_hangs_holds_up_nobody_elses_calls(
    run_fleet: Run, gov_store: str, background: ThreadPoolExecutor
) -> None:
    fleet = run_fleet(openai={"max_connections": 12, "connect_timeout": 60})
    fleet.openai.script = Script(gate=(gate := Gate()))
    hanging = background.submit(fleet.statuses, ["gpt-4o"] * 24)
    until(lambda: Books(gov_store).open_reservations() == 24)
    assert fleet.statuses(["claude-opus-4-1", "llama-3"] * 20) == [200] * 40
    assert not hanging.done()
    assert fleet.reached() == {"openai": 12, "anthropic": 20, "local": 20}
    gate.open()
    assert hanging.result() == [200] * 24


@BOTH
def test_an_upstream_that_cannot_be_reached_holds_up_nobody_elses_calls(
    run_fleet: Run, gov_store: str, background: ThreadPoolExecutor, unanswering: socket.socket
) -> None:
    fleet = run_fleet(openai={"url": _url(unanswering), "connect_timeout": 60})
    hanging = background.submit(fleet.statuses, ["gpt-4o"] * 20)
    until(lambda: Books(gov_store).open_reservations() == 20)
    assert fleet.statuses(["claude-opus-4-1", "llama-3"] * 20) == [200] * 40
    assert not hanging.done()
    unanswering.close()
    assert hanging.result() == [502] * 20
    failed = [record for record in Books(gov_store).records() if record.provider == "openai"]
    assert {record.cost_usd for record in failed} == {"0.000000000"}


@BOTH
def test_every_upstream_has_timeouts_of_its_own(run_fleet: Run, unanswering: socket.socket) -> None:
    fleet = run_fleet(
        openai={"first_byte_timeout": 0.3},
        local={"url": _url(unanswering), "connect_timeout": 0.3},
        connect_timeout=60,
        first_byte_timeout=60,
    )
    slow = Script(delay=0.9)
    fleet.openai.script = fleet.anthropic.script = slow
    assert fleet.statuses([*MODELS.values()]) == [504, 200, 502]


@BOTH
def test_an_upstream_that_stalls_a_stream_is_given_up_on_in_its_own_time(run_fleet: Run) -> None:
    fleet = run_fleet(local={"idle_timeout": 0.3}, idle_timeout=60)
    gate = Gate()
    fleet.local.script = Script(gate=gate)
    gate.let(2)
    with fleet.sidecar.client(max_retries=0) as client, pytest.raises(openai.APIError) as broken:
        list(client.chat.completions.create(**_chat("llama-3"), stream=True))
    assert broken.value.code == "upstream_timeout"


# Connections --------------------------------------------------------------------------------------


@BOTH
def test_calls_past_the_connections_of_an_upstream_wait_for_one(
    run_fleet: Run, gov_store: str, background: ThreadPoolExecutor
) -> None:
    fleet = run_fleet(local={"max_connections": 2, "connect_timeout": 60})
    fleet.local.script = Script(gate=(gate := Gate()))
    asked = background.submit(fleet.statuses, ["llama-3"] * 7)
    until(lambda: Books(gov_store).open_reservations() == 7)
    until(lambda: fleet.reached()["local"] == 2)
    gate.let(1)
    until(lambda: fleet.reached()["local"] == 3)
    gate.open()
    assert asked.result() == [200] * 7


def test_a_wait_in_vain_costs_nothing_and_is_worth_another_try(
    run_fleet: Run, gov_store: str, background: ThreadPoolExecutor
) -> None:
    fleet = run_fleet(local={"max_connections": 1, "connect_timeout": 1})
    fleet.local.script = Script(gate=(gate := Gate()))
    first = background.submit(fleet.ask, "llama-3")
    until(lambda: fleet.reached()["local"] == 1)
    with pytest.raises(openai.InternalServerError) as busy:
        fleet.ask("llama-3")
    assert (busy.value.status_code, busy.value.code) == (503, "upstream_busy")
    assert busy.value.response.headers["retry-after-ms"] == "1000"
    [record] = until(lambda: Books(gov_store).records("refusal"))
    assert (record.outcome, record.status) == ("upstream_busy", 503)
    assert Books(gov_store).records() == [], "not even the request counts"
    gate.open()
    assert first.result().usage is not None
    assert fleet.reached()["local"] == 1
    with fleet.sidecar.client(max_retries=2) as client:
        assert client.chat.completions.create(**_chat("llama-3")).usage is not None


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_gives_up_waiting_pays_nothing_and_leaves_its_place(
    run_fleet: Run, gov_store: str, background: ThreadPoolExecutor, stream: bool
) -> None:
    budget = {"name": "month", "scope": "provider", "meter": "cost_usd", "window": "month", "hard": 1}
    fleet = run_fleet(local={"max_connections": 1, "connect_timeout": 60}, limits=[budget])
    fleet.local.script = Script(gate=(gate := Gate()))
    first = background.submit(fleet.ask, "llama-3")
    until(lambda: fleet.reached()["local"] == 1)
    url, body = f"{fleet.sidecar.url}/v1/chat/completions", _chat("llama-3") | {"stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=body, headers=HEADERS, timeout=1)
    [record] = until(Books(gov_store).records)
    assert (record.cost_usd, record.outcome, record.status) == ("0.000000000", "aborted", None)
    gate.open()
    assert first.result().usage is not None
    assert fleet.ask("llama-3").usage is not None
    assert fleet.reached()["local"] == 2
    assert Books(gov_store).audit().ok


# The end ------------------------------------------------------------------------------------------


@asynccontextmanager
async def _lifespan(app: ASGIApp) -> AsyncIterator[None]:
    orders: asyncio.Queue[Any] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan"}, orders.get, told.put))
    for order in ("startup", "shutdown"):
        await orders.put({"type": f"lifespan.{order}"})
        assert await told.get() == {"type": f"lifespan.{order}.complete"}
        if order == "startup":
            yield
    await running


@BOTH
async def test_a_sidecar_that_ends_hangs_up_on_every_upstream(
    make_governance: Callable[..., Governance],
) -> None:
    left = {name: asyncio.Event() for name in MODELS}

    async def serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"20}")  # the end of a chat's body
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        assert await reader.read() == b""
        left[name].set()
        writer.close()

    async with AsyncExitStack() as running:
        upstreams = []
        for name, model in MODELS.items():
            server = await asyncio.start_server(functools.partial(serve, name), "127.0.0.1", 0)
            await running.enter_async_context(server)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            upstreams.append({"name": name, "models": [model], "url": url})
        sidecar = Sidecar(make_governance(upstreams=upstreams, prices=[LLAMA], api_tokens=[TOKEN]))
        async with _lifespan(sidecar):
            transport = httpx.ASGITransport(sidecar)
            async with httpx.AsyncClient(transport=transport, base_url="http://gov", headers=HEADERS) as http:
                for model in MODELS.values():
                    assert (await http.post("/v1/chat/completions", json=_chat(model))).status_code == 200
            assert not any(event.is_set() for event in left.values()), "connections are kept while it runs"
        async with asyncio.timeout(2):  # by themselves they would close after four seconds
            await asyncio.gather(*(event.wait() for event in left.values()))
