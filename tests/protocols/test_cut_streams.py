"""Streams that are ended before their time: the official SDKs take what they got for a whole answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocols.cutting import USED, cut_after, ends_of_events, reader_of, recorded_streams, recordings

from govmiddleware.protocols.sse import LARGEST_EVENT
from govmiddleware.testing.anthropic_answers import answer as message
from govmiddleware.testing.openai_answers import complete

ASK: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


# Chat completions ---------------------------------------------------------------------------------


class OpenAIClient:
    """The openai SDK, which reads what it is told that a server has sent."""

    def __init__(self) -> None:
        self.sent = b""
        transport = httpx2.MockTransport(self._answer)
        self.sdk = openai.OpenAI(api_key="x", http_client=httpx2.Client(transport=transport), max_retries=0)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self.sent)

    def chunks(self, sent: bytes) -> list[Any]:
        self.sent = sent
        return list(self.sdk.chat.completions.create(**ASK, stream=True))

    def accumulated(self, sent: bytes) -> Any:
        self.sent = sent
        with self.sdk.chat.completions.stream(**ASK) as stream:
            try:
                return stream.get_final_completion()
            except openai.LengthFinishReasonError as whole:  # how this helper says `length`
                return whole.completion


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAIClient]:
    reading = OpenAIClient()
    with reading.sdk:
        yield reading


def check_chat(client: OpenAIClient, sent: bytes, *, says_usage: bool) -> None:
    assert sent.count(b"data: [DONE]") == 1
    assert sent.endswith(b"data: [DONE]\n\n")
    chunks = client.chunks(sent)
    answer = client.accumulated(sent)
    assert answer.choices
    assert all(choice.finish_reason is not None for choice in answer.choices)
    said = [chunk for chunk in chunks if not chunk.choices and chunk.usage]
    assert len(said) == says_usage


def chat_stream(*, include_usage: bool, **wanted: Any) -> bytes:
    body = {**ASK, "n": wanted.pop("n", 1)}
    answer = complete(body, **{"tool": None, "model": None, "usage": None, **wanted})
    return b"".join(answer.as_events(pieces=4, include_usage=include_usage))


CHATS = {
    "text": {"text": "The quick brown fox jumps over the lazy dog."},
    "tool call": {"text": '{"city": "Berlin", "unit": "C"}', "tool": "get_weather"},
    "three choices": {"text": "One two three four five.", "n": 3},
}


@pytest.mark.parametrize("asked_for_usage", [True, False], ids=["usage wanted", "usage injected"])
@pytest.mark.parametrize("kind", CHATS)
def test_a_chat_stream_ends_validly_after_any_of_its_events(
    client: OpenAIClient, kind: str, asked_for_usage: bool
) -> None:
    raw = chat_stream(include_usage=True, **CHATS[kind])
    for place in ends_of_events(raw)[:-1]:
        reader = reader_of(CHAT, usage_was_injected=not asked_for_usage)
        sent = cut_after(reader, raw, [place])
        check_chat(client, sent, says_usage=asked_for_usage)


def test_every_choice_that_has_begun_ends_as_if_its_output_limit_were_reached(client: OpenAIClient) -> None:
    raw = chat_stream(include_usage=True, text="One two three four five.", n=3)
    place = raw.index(b" three")
    sent = cut_after(reader_of(CHAT), raw, [place])
    chunks = client.chunks(sent)
    answer = client.accumulated(sent)
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 3
    assert {(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks} == {
        (answer.id, answer.created, "gpt-4o", "chat.completion.chunk")
    }
    assert sent.count(b'"usage":null') == len(chunks) - 1
    assert chunks[-1].usage.to_dict() == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def test_a_choice_that_has_finished_keeps_its_reason(client: OpenAIClient) -> None:
    def event(index: int, content: str, finish_reason: str | None) -> bytes:
        choice = {"index": index, "delta": {"content": content}, "finish_reason": finish_reason}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"

    raw = event(0, "a", None) + event(1, "b", None) + event(0, "", "stop") + event(1, "c", None)
    raw += event(0, "", None)  # Azure says more of what it has filtered
    answer = client.accumulated(cut_after(reader_of(CHAT), raw, [len(raw)]))
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "length"]
    assert [choice.message.content for choice in answer.choices] == ["a", "bc"]


def test_a_stream_that_says_nothing_yet_ends_as_an_empty_answer(client: OpenAIClient) -> None:
    sent = cut_after(reader_of(CHAT), b": waiting\n\n", [11])
    answer = client.accumulated(sent)
    assert (answer.id, answer.model) == ("chatcmpl-req_1", "asked-for")
    assert [(choice.message.content, choice.finish_reason) for choice in answer.choices] == [("", "length")]


def test_a_stream_that_has_ended_gets_no_second_end() -> None:
    raw = chat_stream(include_usage=True, text="Hello.")
    assert cut_after(reader_of(CHAT), raw, [len(raw)]) == raw


def test_an_event_too_large_to_keep_is_counted_and_closed_before_the_end() -> None:
    reader = reader_of(CHAT)
    passed = reader.feed(b"data: " + b"x" * LARGEST_EVENT)
    assert "".join(reader.take_delivered()).count("x") > LARGEST_EVENT - 10
    end = reader.cut(USED, model="m", request_id="r")
    assert (passed + end).count(b"\n\ndata: {") == 2


@recordings("openai.chat")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # Mistral's content, uncut as well
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_recorded_chat_stream_ends_validly_wherever_it_is_cut(
    client: OpenAIClient, data: st.DataObject
) -> None:
    streams = recorded_streams("openai.chat")
    raw = streams[data.draw(st.integers(0, len(streams) - 1))]
    last = raw.rindex(b"data: [DONE]")
    places = data.draw(st.lists(st.integers(0, last), min_size=1, max_size=6))
    injected = data.draw(st.booleans())
    reader = reader_of(CHAT, usage_was_injected=injected)
    sent = cut_after(reader, raw, places)
    check_chat(client, sent, says_usage=not injected)


# Messages -----------------------------------------------------------------------------------------


class AnthropicClient:
    """The anthropic SDK, which reads what it is told that a server has sent."""

    def __init__(self) -> None:
        self.sent = b""
        http_client = httpx2.Client(transport=httpx2.MockTransport(self._answer))
        self.sdk = anthropic.Anthropic(api_key="x", http_client=http_client, max_retries=0)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self.sent)

    def accumulated(self, sent: bytes) -> Any:
        """By the helper for what is generally available, whose events are checked to come in order."""
        self.sent = sent
        with self.sdk.beta.messages.stream(**{**ASK, "max_tokens": 99}) as stream:
            types = [event.type for event in stream]
            assert types[-1] == "message_stop"
            assert types.count("content_block_start") == types.count("content_block_stop")
            return stream.get_final_message()


@pytest.fixture(scope="module")
def claude() -> Iterator[AnthropicClient]:
    reading = AnthropicClient()
    with reading.sdk:
        yield reading


def message_stream(**wanted: Any) -> bytes:
    body = {**ASK, "max_tokens": 999, "thinking": {"type": "enabled", "budget_tokens": 500}}
    given = {"text": "One two three.", "tool": None, "thinking": "", "model": None, "usage": None, **wanted}
    return b"".join(message(body, **given).as_events(pieces=4))


STREAMS = {
    "text": {"text": "The quick brown fox jumps over the lazy dog."},
    "thinking": {"thinking": "Let me think about it."},
    "tool call": {"text": '{"city": "Berlin", "unit": "C"}', "tool": "get_weather", "thinking": "Well then."},
}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_message_ends_validly_after_any_of_its_events(
    claude: AnthropicClient, kind: str, line_end: bytes
) -> None:
    raw = message_stream(**STREAMS[kind])
    last = raw.index(b"event: message_delta")
    for place in (place for place in ends_of_events(raw) if place <= last):
        passed = raw[:place].replace(b"\n", line_end)
        # The blank line of CRs ends an event only when it is known that no LF follows.
        sent = cut_after(reader_of(MESSAGES), passed + b":", [len(passed), len(passed) + 1])
        assert sent.startswith(passed)
        answer = claude.accumulated(sent)
        assert answer.stop_reason == "max_tokens"
        assert answer.usage.output_tokens == 7


def test_a_tool_call_that_is_cut_in_its_input_keeps_what_came(claude: AnthropicClient) -> None:
    raw = message_stream(**STREAMS["tool call"])
    sent = cut_after(reader_of(MESSAGES), raw, [raw.index(b"event: content_block_stop", raw.index(b"unit"))])
    thought, call = claude.accumulated(sent).content
    assert thought.thinking == "Well then."
    assert call.input["city"] == "Berlin"


def test_a_message_that_says_nothing_yet_ends_as_an_empty_one(claude: AnthropicClient) -> None:
    answer = claude.accumulated(cut_after(reader_of(MESSAGES), b"event: ping\ndata: {}\n\n", [23]))
    assert (answer.id, answer.model, answer.content) == ("msg_req_1", "asked-for", [])
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 7)


def test_a_message_whose_reason_to_stop_is_said_keeps_it(claude: AnthropicClient) -> None:
    raw = message_stream(text="Hello.")
    sent = cut_after(reader_of(MESSAGES), raw, [raw.index(b"event: message_stop")])
    assert claude.accumulated(sent).stop_reason == "end_turn"
    assert sent == raw


def test_a_message_that_has_ended_gets_no_second_end() -> None:
    raw = message_stream(text="Hello.")
    assert cut_after(reader_of(MESSAGES), raw, [len(raw)]) == raw


@recordings("anthropic.messages")
def test_a_recorded_message_ends_validly_after_any_of_its_events(claude: AnthropicClient) -> None:
    for raw in recorded_streams("anthropic.messages"):
        last = raw.index(b"event: message_delta")
        for place in [place for place in ends_of_events(raw) if place <= last][::6]:
            answer = claude.accumulated(cut_after(reader_of(MESSAGES), raw, [place]))
            assert answer.stop_reason == "max_tokens"
            assert answer.usage.output_tokens == 7


@recordings("anthropic.messages")
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_recorded_message_ends_validly_wherever_it_is_cut(
    claude: AnthropicClient, data: st.DataObject
) -> None:
    streams = recorded_streams("anthropic.messages")
    raw = streams[data.draw(st.integers(0, len(streams) - 1))]
    places = data.draw(st.lists(st.integers(0, raw.index(b"event: message_delta")), min_size=1, max_size=6))
    assert claude.accumulated(cut_after(reader_of(MESSAGES), raw, places)).stop_reason == "max_tokens"
