"""OpenAI's responses, legacy completions and moderations: the official SDK through the sidecar."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.testing import Script
from govmiddleware.testing.bell import Gate

Run = Callable[..., RunningSidecar]
SAID = "The quick brown fox jumps over the lazy dog."
HELLO: Any = {"model": "gpt-4o-mini", "input": "Say hello to me", "max_output_tokens": 50}
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def test_an_answer_comes_back_and_is_metered_exactly(run_sidecar: Run, books: Books) -> None:
    with run_sidecar().client() as client:
        raw = client.responses.with_raw_response.create(**HELLO, user="ann")
    answer = raw.parse()
    assert (answer.output_text, answer.status) == (SAID, "completed")
    assert raw.headers["x-gov-request-id"].startswith("req_")
    [record] = books.records()
    assert (record.protocol, record.user, record.settlement) == ("openai.responses", "ann", "exact")
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (4, 9)


def test_a_stream_comes_piece_by_piece_and_is_metered_exactly(run_sidecar: Run, books: Books) -> None:
    with run_sidecar().client() as client:
        events = list(client.responses.create(**HELLO, stream=True))
        with client.responses.stream(**HELLO) as stream:
            final = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert ("".join(deltas), len(deltas)) == (SAID, 5)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == SAID
    usages = [record.usage for record in books.records() if record.settlement == "exact"]
    assert [usage and usage.output_tokens for usage in usages] == [9, 9]


def test_a_tool_call_arrives_whole_and_its_output_goes_back(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar()
    sidecar.provider.next(Script(tool="get_weather", text='{"city": "Berlin"}'), times=2)
    with sidecar.client() as client:
        answer = client.responses.create(**HELLO, tools=[TOOL])
        [call] = answer.output
        assert call.type == "function_call"
        assert call.arguments == '{"city": "Berlin"}'
        with client.responses.stream(**HELLO, tools=[TOOL]) as stream:
            [streamed] = stream.get_final_response().output
        assert streamed.type == "function_call"
        assert streamed.arguments == call.arguments
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        given: Any = [{"role": "user", "content": "Hello"}, call.to_dict(), output]
        assert client.responses.create(**HELLO | {"input": given}, tools=[TOOL]).output_text == SAID
    assert [record.settlement for record in books.records()] == ["exact"] * 3


def test_what_codex_sends_passes_unharmed_and_counts_for_its_session(run_sidecar: Run, books: Books) -> None:
    """As codex 0.169 does, without its texts."""
    sidecar = run_sidecar()
    namespace = {"type": "namespace", "name": "agents", "description": "Agents.", "tools": [TOOL]}
    custom = {
        "type": "custom",
        "name": "apply_patch",
        "format": {"type": "grammar", "definition": "start: x"},
    }
    body = {
        "model": "gpt-5.4",
        "input": [
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "Rules. " * 900}],
            },
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hi"}]},
        ],
        "tools": [TOOL, namespace, custom, {"type": "web_search", "external_web_access": False}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "01a202b8",
        "client_metadata": {"x-codex-window-id": "01a202b8:0"},
    }
    raw = json.dumps(body).encode()
    headers = {
        "authorization": f"Bearer {SECRET}",
        "session-id": "01a202b8",
        "content-type": "application/json",
    }
    answer = httpx.post(f"{sidecar.url}/v1/responses", content=raw, headers=headers)
    assert answer.is_success
    assert b"event: response.completed" in answer.content
    [exchange] = sidecar.provider.exchanges
    assert exchange.body == body
    assert exchange.header(b"session-id") == b"01a202b8"
    [record] = books.records()
    assert (record.session, record.settlement) == ("01a202b8", "exact")


def test_a_call_in_the_background_is_charged_its_bound_and_its_fetches_nothing(
    run_sidecar: Run, books: Books
) -> None:
    with run_sidecar().client() as client:
        queued = client.responses.create(**HELLO, background=True)
        assert (queued.status, queued.usage) == ("queued", None)
        assert client.responses.retrieve(queued.id).output_text == SAID
    called, fetched = books.records()
    assert called.usage is not None
    assert called.bound is not None
    assert (called.settlement, called.usage.output_tokens) == ("estimated", 50)
    assert (called.cost_usd, fetched.cost_usd) == (called.bound["cost_usd"], "0.000000000")


def test_a_stream_in_the_background_that_a_client_leaves_is_charged_its_bound(
    run_sidecar: Run, books: Books
) -> None:
    sidecar, gate = run_sidecar(), Gate()
    sidecar.provider.script = Script(gate=gate)
    gate.let(5)
    with sidecar.client() as client, client.responses.create(**HELLO, background=True, stream=True) as events:
        assert next(iter(events)).type == "response.created"
    [record] = until(books.records)
    gate.open()
    assert record.usage is not None
    assert (record.settlement, record.usage.output_tokens) == ("aborted", 50)


def test_a_stream_is_ended_at_a_limit_as_if_the_model_had_reached_its_own(
    run_sidecar: Run, books: Books
) -> None:
    limit = {"name": "out", "scope": "workspace", "meter": "output_tokens", "window": "day", "hard": 400}
    sidecar = run_sidecar(limits=[limit], slice_output_tokens=100)
    sidecar.provider.script = Script(text="word " * 3000, pieces=3000)
    with sidecar.client() as client:
        events = list(client.responses.create(**HELLO | {"max_output_tokens": 5000}, stream=True))
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage is not None
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert last.response.output_text == deltas
    assert 100 < last.response.usage.output_tokens <= 400
    assert [event.sequence_number for event in events] == list(range(len(events)))
    [record] = books.records()
    assert record.outcome == "cut"


def test_a_stream_that_the_upstream_breaks_off_raises(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    sidecar.provider.script = Script(breaks_after=5)
    with sidecar.client(max_retries=0) as client, pytest.raises(openai.APIError) as raised:
        list(client.responses.create(**HELLO, stream=True))
    assert raised.value.code == "upstream_unreachable"


def test_a_budget_refusal_is_not_retried(run_sidecar: Run) -> None:
    limit = {"name": "poor", "scope": "user", "meter": "cost_usd", "window": "month", "hard": 0.00001}
    sidecar = run_sidecar(limits=[limit])
    with sidecar.client(max_retries=5) as client, pytest.raises(openai.RateLimitError) as refused:
        client.responses.create(**HELLO, safety_identifier="ann")
    assert (refused.value.code, sidecar.provider.exchanges) == ("insufficient_quota", [])


def test_a_tool_that_calls_another_model_is_refused_by_name(run_sidecar: Run) -> None:
    with run_sidecar().client() as client, pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**HELLO, tools=[{"type": "image_generation"}])
    assert refused.value.param == "tools"


def test_a_conversation_is_compacted_as_a_whole_or_not_at_all(run_sidecar: Run, books: Books) -> None:
    ask: Any = {"model": "gpt-4o-mini", "input": "A long conversation"}
    limit = {"name": "out", "scope": "workspace", "meter": "output_tokens", "window": "day", "hard": 16_400}
    with run_sidecar(limits=[limit]).client() as client:
        [item] = client.responses.compact(**ask).output
        assert item.type == "compaction"
        client.responses.create(**HELLO)  # so that less than the model's maximum is left
        client.responses.create(**HELLO)
        with pytest.raises(openai.RateLimitError):
            client.responses.compact(**ask)
    compacted, *_ = books.records()
    assert compacted.usage is not None
    assert (compacted.protocol, compacted.settlement) == ("openai.compact", "exact")
    assert (compacted.usage.input_tokens, compacted.usage.output_tokens) == (3, 3)
    assert compacted.bound is not None
    assert compacted.bound["output_tokens"] == 16_384


def test_nothing_is_written_into_a_request_that_takes_no_limit(run_sidecar: Run, books: Books) -> None:
    price = {"model": "local", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    sidecar = run_sidecar(prices=[price])
    with sidecar.client() as client:
        client.responses.compact(model="local", input="One two")
    assert sidecar.provider.exchanges[0].body == {"model": "local", "input": "One two"}
    [record] = books.records()
    assert record.bound is not None
    assert record.bound["output_tokens"] == 4096


def test_legacy_completions_are_metered_in_json_and_in_streams(run_sidecar: Run, books: Books) -> None:
    ask: Any = {"model": "gpt-3.5-turbo-instruct", "prompt": ["One two", "Three"], "max_tokens": 20}
    with run_sidecar().client() as client:
        answer = client.completions.create(**ask)
        chunks = list(client.completions.create(**ask, stream=True))
    assert [choice.text for choice in answer.choices] == [SAID, SAID]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    said = "".join(choice.text for chunk in chunks for choice in chunk.choices if choice.index == 1)
    assert said == SAID
    for record in books.records():
        assert record.usage is not None
        assert (record.protocol, record.settlement) == ("openai.completions", "exact")
        assert (record.usage.input_tokens, record.usage.output_tokens) == (3, 18)
        assert record.bound is not None
        assert record.bound["output_tokens"] == 40


def test_moderations_and_counted_tokens_are_free(run_sidecar: Run, books: Books) -> None:
    limit = {"name": "poor", "scope": "workspace", "meter": "cost_usd", "window": "month", "hard": 0.000001}
    with run_sidecar(limits=[limit]).client() as client:
        assert not client.moderations.create(input="Hello").results[0].flagged
        assert client.responses.input_tokens.count(model="gpt-4o", input="One two").input_tokens == 2
    assert [(record.protocol, record.settlement, record.cost_usd) for record in books.records()] == [
        ("openai.moderations", "exact", "0.000000000"),
        ("openai.input_tokens", "exact", "0.000000000"),
    ]
