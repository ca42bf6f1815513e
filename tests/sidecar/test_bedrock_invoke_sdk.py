"""Anthropic's SDK for Bedrock through the sidecar: what it and Claude Code send to Bedrock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from anthropic.lib.bedrock._stream_decoder import AWSEventStreamDecoder
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.bedrock_invoke import StreamReader
from govmiddleware.testing import Script
from govmiddleware.testing.anthropic_answers import answer
from govmiddleware.testing.bedrock_answers import as_chunks

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO: Any = {
    "model": MODEL,
    "max_tokens": 100,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello there"}]}],
}
SAID = "The quick brown fox jumps over the lazy dog."
Run = Callable[..., RunningSidecar]


def client_of(sidecar: RunningSidecar, **options: Any) -> anthropic.AnthropicBedrock:
    given = {"api_key": SECRET, "aws_region": "us-east-1", "max_retries": 0, **options}
    return anthropic.AnthropicBedrock(base_url=sidecar.url, **given)


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def test_answers_and_streams_are_metered_exactly_at_bedrocks_prices(run_sidecar: Run, books: Books) -> None:
    sidecar = run_sidecar()
    sidecar.provider.api_key = "sk-upstream"  # as a Bearer token alone
    sidecar.provider.script = Script(model="claude-sonnet-4-5-20250929")  # as Bedrock's answers name it
    with client_of(sidecar) as client:
        said = client.messages.create(**HELLO)
        assert [block.text for block in said.content if block.type == "text"] == [SAID]
        with client.messages.stream(**HELLO) as stream:
            assert "".join(stream.text_stream) == SAID
    assert sidecar.provider.exchanges[-1].path == f"/model/{MODEL}/invoke-with-response-stream"
    for record in until(lambda: books.records() if len(books.records()) == 2 else None):
        assert record.usage is not None
        assert (record.usage.input_tokens, record.usage.output_tokens) == (2, 9)
        # $3.30 and $16.50 a million tokens in a region, not Anthropic's own $3 and $15
        assert (record.protocol, record.settlement, record.cost_usd) == (
            "bedrock.invoke",
            "exact",
            "0.000155100",
        )


def test_a_tool_is_called_and_a_signed_request_names_its_token_by_the_id_of_its_key(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    sidecar.provider.script = Script(tool="get_weather", text='{"city": "Berlin"}')
    tool: Any = {"name": "get_weather", "input_schema": {"type": "object"}}
    signing = {"api_key": None, "aws_access_key": SECRET, "aws_secret_key": "x"}
    with client_of(sidecar, **signing) as client, client.messages.stream(**HELLO, tools=[tool]) as stream:
        [called] = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert (called.name, called.input) == ("get_weather", {"city": "Berlin"})


def test_refusals_and_broken_streams_are_the_sdks_own_exceptions(run_sidecar: Run) -> None:
    limit = {"name": "poor", "scope": "workspace", "meter": "requests", "window": "month", "hard": 1}
    sidecar = run_sidecar(limits=[limit])
    sidecar.provider.next(Script(breaks_after=5))
    with client_of(sidecar, max_retries=2) as client:
        with (
            pytest.raises(anthropic.APIStatusError, match="modelStreamErrorException"),
            client.messages.stream(**HELLO) as stream,
        ):
            stream.until_done()
        with pytest.raises(anthropic.RateLimitError, match="poor"):
            client.messages.create(**HELLO)
    assert len(sidecar.provider.exchanges) == 1  # and nothing was retried


def test_a_stream_that_is_ended_before_its_time_is_a_whole_message_to_the_sdk() -> None:
    message = answer(HELLO, text=SAID, tool=None, thinking="", model=None, usage=None)
    frames = [*as_chunks(message.as_events(pieces=5))]
    decoder = AWSEventStreamDecoder()
    for cut in range(len(frames)):
        reader = StreamReader(may_be_cut=True)
        passed = reader.feed(b"".join(frames[:cut]) + frames[cut][:20])
        sent = passed + reader.cut(Usage(2, 0, 0, 7), model=MODEL, request_id="req_1")
        kinds = [event.event for event in decoder.iter_bytes(iter([sent]))]
        assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
        assert kinds.count("content_block_start") == kinds.count("content_block_stop")
