"""Streams of responses and legacy completions that are ended before their time: the SDK takes them for whole ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.cutting import cut_after, ends_of_events, reader_of, recorded_streams, recordings

from govmiddleware.testing import openai_completions_answers, openai_responses_answers

ASK: Any = {"model": "gpt-4o", "input": "Hello"}
RESPONSES, COMPLETIONS = "/v1/responses", "/v1/completions"


class Client:
    """The openai SDK, which reads what it is told that a server has sent."""

    def __init__(self) -> None:
        self.sent = b""
        transport = httpx2.MockTransport(self._answer)
        self.sdk = openai.OpenAI(api_key="x", http_client=httpx2.Client(transport=transport), max_retries=0)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self.sent)

    def events(self, sent: bytes) -> list[Any]:
        """As they come, and as the helper that accumulates them hands them on."""
        self.sent = sent
        with self.sdk.responses.stream(**ASK) as stream:
            accumulated = list(stream)
        events = list(self.sdk.responses.create(**ASK, stream=True))
        assert [event.type for event in accumulated] == [event.type for event in events]
        return events


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    reading = Client()
    with reading.sdk:
        yield reading


def check(client: Client, sent: bytes) -> Any:
    """The response that the end repeats, once what begins is found to end, and all that was told to be in it."""
    events = client.events(sent)
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    last = events[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "incomplete")
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert (last.response.usage.input_tokens, last.response.usage.output_tokens) == (11, 7)
    for what in ("output_item", "content_part", "reasoning_summary_part"):
        begun = [_place(event) for event in events if event.type == f"response.{what}.added"]
        ended = [_place(event) for event in events if event.type == f"response.{what}.done"]
        assert sorted(begun) == sorted(ended), what
    ended_items: set[int] = set()
    for event in events:
        if event.type == "response.output_item.done":
            ended_items.add(event.output_index)
        else:
            assert getattr(event, "output_index", None) not in ended_items, (
                "an item ends last of all that is in it"
            )
    items = {event.output_index: event.item for event in events if event.type == "response.output_item.done"}
    assert [item.to_dict() for _, item in sorted(items.items())] == [
        item.to_dict() for item in last.response.output
    ]
    for what, member in (("output_text", "text"), ("function_call_arguments", "arguments")):
        told: dict[Any, str] = {}
        for event in events:
            if event.type == f"response.{what}.delta":
                told[_place(event)] = told.get(_place(event), "") + event.delta
        done = {_place(e): getattr(e, member) for e in events if e.type == f"response.{what}.done"}
        assert done == told
    return last.response


def _place(event: Any) -> tuple[int, ...]:
    names = ("output_index", "content_index", "summary_index")
    return tuple(getattr(event, name, -1) for name in names)


def stream_of(**wanted: Any) -> bytes:
    given = {"text": "The quick brown fox jumps.", "tool": None, "model": None, "usage": None, **wanted}
    return b"".join(openai_responses_answers.respond(ASK, **given).as_events(pieces=4))


STREAMS = {
    "text": {},
    "tool call": {"text": '{"city": "Berlin", "unit": "C"}', "tool": "get_weather"},
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_response_ends_validly_after_any_of_its_events(client: Client, kind: str) -> None:
    raw = stream_of(**STREAMS[kind])
    for place in ends_of_events(raw)[1:-1]:
        sent = cut_after(reader_of(RESPONSES), raw, [place])
        assert sent.startswith(raw[:place])
        check(client, sent)


def test_the_end_repeats_what_was_said_and_says_that_it_is_incomplete(client: Client) -> None:
    raw = stream_of()
    response = check(client, cut_after(reader_of(RESPONSES), raw, [raw.index(b"jumps")]))
    assert (response.output_text, response.output[0].status) == ("The quick brown fox", "incomplete")
    assert response.id in raw.decode()


def test_a_tool_call_keeps_its_name_and_what_came_of_its_arguments(client: Client) -> None:
    raw = stream_of(**STREAMS["tool call"])
    response = check(client, cut_after(reader_of(RESPONSES), raw, [raw.index(b"unit")]))
    [call] = response.output
    assert (call.name, call.arguments, call.status) == ("get_weather", '{"city": "Berlin",', "incomplete")


def test_a_response_that_says_nothing_yet_ends_as_an_empty_one(client: Client) -> None:
    sent = cut_after(reader_of(RESPONSES), b": waiting\n\n", [11])
    response = check(client, sent)
    assert (response.id, response.model, response.output) == ("resp_req_1", "asked-for", [])


def test_a_response_that_has_ended_gets_no_second_end() -> None:
    raw = stream_of()
    assert cut_after(reader_of(RESPONSES), raw, [len(raw)]) == raw


@recordings("openai.responses")
@settings(max_examples=10, deadline=None)
@given(st.data())
def test_a_recorded_response_ends_validly_wherever_it_is_cut(client: Client, data: st.DataObject) -> None:
    streams = [raw for raw in recorded_streams("openai.responses") if b"web_search_call" not in raw]
    raw = streams[data.draw(st.integers(0, len(streams) - 1))]
    last = raw.rindex(b"\n\n", 0, raw.index(b"response.completed")) + 2
    places = data.draw(st.lists(st.integers(0, last), min_size=1, max_size=6))
    check(client, cut_after(reader_of(RESPONSES), raw, places))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "output_index",
                    "content_index",
                    "item",
                    "part",
                    "delta",
                    "response",
                    "sequence_number",
                ]
            ),
            st.sampled_from(
                [
                    "response.output_item.added",
                    "response.content_part.added",
                    "response.output_text.delta",
                    "response.output_text.done",
                    "response.function_call_arguments.delta",
                    0,
                    1,
                    -1,
                    None,
                    [],
                    {},
                    {"id": 1},
                ]
            ),
            max_size=6,
        ),
        max_size=12,
    )
)
def test_whatever_a_server_sends_can_be_followed_and_ended(events: list[dict[str, Any]]) -> None:
    raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    reader = reader_of(RESPONSES)
    sent = cut_after(reader, raw, [len(raw)])
    assert sent.startswith(raw)
    for line in sent[len(raw) :].splitlines():
        if line.startswith(b"data: "):
            json.loads(line[6:])


@pytest.mark.parametrize("asked_for_usage", [True, False], ids=["usage wanted", "usage injected"])
def test_a_legacy_completion_ends_validly_after_any_of_its_events(
    client: Client, asked_for_usage: bool
) -> None:
    body: Any = {"model": "gpt-3.5-turbo-instruct", "prompt": ["One", "Two"]}
    answer = openai_completions_answers.complete(body, text="One two three four.", model=None, usage=None)
    raw = b"".join(answer.as_events(pieces=3, include_usage=True))
    for place in ends_of_events(raw)[:-1]:
        reader = reader_of(COMPLETIONS, usage_was_injected=not asked_for_usage)
        client.sent = cut_after(reader, raw, [place])
        assert client.sent.endswith(b"data: [DONE]\n\n")
        chunks = list(client.sdk.completions.create(**body, stream=True))
        reasons: dict[int, list[str]] = {}
        for choice in (choice for chunk in chunks for choice in chunk.choices):
            reasons.setdefault(choice.index, []).extend(
                [choice.finish_reason] if choice.finish_reason else []
            )
        assert reasons
        assert all(len(given) == 1 for given in reasons.values())
        assert len([chunk for chunk in chunks if chunk.usage]) == asked_for_usage
