"""Where the work of a Governance runs: on the loop that it was opened on, or on one in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import httpx2
import pytest
from tests.inside.books import read_books
from tests.inside.conftest import settings
from tests.inside.speaking import SAY, SCRIPT

from govmiddleware import Governance, WrongEventLoop
from govmiddleware.testing import Script
from govmiddleware.testing.bell import Gate

CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-provider"}


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "govmiddleware"]


@pytest.fixture
def governance(make_governance: Any) -> Governance:
    made: Governance = make_governance(**settings())
    return made


@pytest.fixture
def post(governance: Governance, provider: Any, provider_url: str) -> Any:
    """A chat completion on a synchronous client, from the thread that calls it."""

    def send() -> httpx2.Response:
        transport = governance.transport(principal=SCRIPT)
        with httpx2.Client(base_url=provider_url, transport=transport, headers=KEY) as http:
            return http.post(CHAT, json=SAY)

    return send


def test_a_script_without_a_loop_has_one_in_a_thread(governance, make_governance, post) -> None:
    with governance:
        assert [post().status_code for _ in range(2)] == [200, 200]
        assert len(ours()) == 1
    assert ours() == []
    with governance:
        assert post().status_code == 200, "closed, it opens again"
    assert len(asyncio.run(read_books(make_governance()))) == 3


def test_a_script_may_do_without_opening(governance, make_governance, post) -> None:
    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ours()) == 1
    asyncio.run(governance.close())
    assert ours() == []
    assert len(asyncio.run(read_books(make_governance()))) == 4


async def test_threads_work_on_the_loop_that_is_there(governance, post) -> None:
    async with governance:
        answers = await asyncio.gather(*(asyncio.to_thread(post) for _ in range(5)))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert ours() == []
    assert len(await read_books(governance)) == 5


async def test_other_loops_work_on_the_loop_that_is_there(governance, provider, provider_url) -> None:
    async def say() -> int:
        transport = governance.transport(principal=SCRIPT)
        async with httpx2.AsyncClient(base_url=provider_url, transport=transport, headers=KEY) as http:
            async with http.stream("POST", CHAT, json=SAY | {"stream": True}) as answer:
                assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
            return (await http.post(CHAT, json=SAY)).status_code

    async with governance:
        assert await asyncio.to_thread(asyncio.run, say()) == 200
    assert [record["settlement"] for record in await read_books(governance)] == ["exact", "exact"]


async def test_a_synchronous_client_that_would_block_its_own_loop_is_told(governance, provider, post) -> None:
    async with governance:
        with pytest.raises(WrongEventLoop, match=r"asyncio\.to_thread"):
            post()
    assert provider.exchanges == []


async def test_opening_it_on_a_second_loop_is_told(governance) -> None:
    async with governance:
        with pytest.raises(WrongEventLoop, match="open it in the app's lifespan"):
            await asyncio.to_thread(asyncio.run, governance.open())


def test_a_loop_that_has_ended_under_it_is_told(governance, provider, post) -> None:
    async def forget() -> None:
        await governance.open()
        await governance.upkeep.stop()
        await governance.storage.close()

    asyncio.run(forget())
    with pytest.raises(WrongEventLoop, match="has ended"):
        post()


async def test_a_caller_that_is_cancelled_while_it_waits_ends_its_call(
    governance, provider, provider_url
) -> None:
    provider.script = Script(never_answers=True)
    transport = governance.transport(principal=SCRIPT)
    async with httpx2.AsyncClient(base_url=provider_url, transport=transport, headers=KEY) as http:
        waiting = asyncio.create_task(http.post(CHAT, json=SAY))
        await provider.until(lambda: bool(provider.exchanges) and provider.exchanges[0].body is not None)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
    [record] = await read_books(governance)
    assert (record["settlement"], record["cost_usd"]) == ("aborted", record["bound"]["cost_usd"])


async def test_a_caller_that_is_cancelled_while_it_is_judged_holds_nothing(
    governance, provider, provider_url, monkeypatch
) -> None:
    asked = asyncio.Event()
    acquire = governance.ledger.acquire

    async def slow(*arguments: Any, **keywords: Any) -> Any:
        outcome = await acquire(*arguments, **keywords)
        asked.set()
        await asyncio.get_running_loop().create_future()
        return outcome

    monkeypatch.setattr(governance.ledger, "acquire", slow)
    transport = governance.transport(principal=SCRIPT)
    async with httpx2.AsyncClient(base_url=provider_url, transport=transport, headers=KEY) as http:
        waiting = asyncio.create_task(http.post(CHAT, json=SAY))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await read_books(governance) == []
    assert provider.exchanges == []


async def test_an_answer_that_is_dropped_unread_ends_its_call(governance, provider, provider_url) -> None:
    gate = Gate()
    provider.script = Script(gate=gate)
    transport = governance.transport(principal=SCRIPT)
    async with httpx2.AsyncClient(base_url=provider_url, transport=transport, headers=KEY) as http:
        gate.let()
        request = http.build_request("POST", CHAT, json=SAY | {"stream": True})
        answer = await http.send(request, stream=True)
        assert answer.status_code == 200
        del answer
        gc.collect()
        async with asyncio.timeout(5):
            while governance.upkeep._open:
                await asyncio.sleep(0.01)
    [record] = await read_books(governance)
    assert record["settlement"] == "aborted"


async def test_a_stream_that_a_limit_ends_is_not_read_on(make_governance, provider, provider_url) -> None:
    provider.script = Script(text="word " * 5000, pieces=500, interval=0.002)
    tokens = {"name": "tokens", "scope": "workspace", "meter": "output_tokens", "window": "day", "hard": 1000}
    model = {"model": "gpt-4o-mini", "same_as": "gpt-4o-mini", "max_output_tokens": 100_000}
    governance = make_governance(limits=[tokens], prices=[model], slice_output_tokens=500)
    transport = governance.transport(principal=SCRIPT)
    async with httpx2.AsyncClient(base_url=provider_url, transport=transport, headers=KEY) as http:
        body = SAY | {"model": "gpt-4o-mini", "max_tokens": None, "stream": True}
        answer = await http.post(CHAT, json=body)
        assert answer.text.endswith("data: [DONE]\n\n")
        await provider.until(lambda: provider.exchanges[0].disconnected_at is not None)
    [record] = await read_books(governance)
    assert record["outcome"] == "cut"


async def test_a_transport_of_the_apps_own_sends(governance) -> None:
    entered: list[str] = []

    class Own(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            usage = {"prompt_tokens": 10, "completion_tokens": 5}
            message = {"role": "assistant", "content": "Hi"}
            return httpx2.Response(200, json={"choices": [{"message": message}], "usage": usage})

        async def __aenter__(self) -> Own:
            entered.append("in")
            return self

        async def aclose(self) -> None:
            entered.append("out")

    transport = governance.transport(Own(), principal=SCRIPT)
    async with httpx2.AsyncClient(base_url="http://provider", transport=transport) as http:
        assert (await http.post(CHAT, json=SAY)).json()["choices"][0]["message"]["content"] == "Hi"
    assert entered == ["in", "out"]
    [record] = await read_books(governance)
    assert record["cost_usd"] == "0.000020000"
