"""What breaks: the client, the provider, LiteLLM itself. The books balance through all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from tests.litellm.conftest import Gateway
from tests.litellm.proxy import LiteLLM
from tests.sidecar.waiting import until

from govmiddleware.core.tokens import count_tokens
from govmiddleware.testing import Script, ScriptedProvider
from govmiddleware.testing.bell import Gate

CHAT = "/v1/chat/completions"
TEXT = " ".join(f"word{n}" for n in range(20))
BODY = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 99}
STREAM = BODY | {"stream": True}


def read_until(lines: Iterator[str], word: str) -> None:
    """Read on until the client has seen `word`."""
    assert any(word in line for line in lines), f"{word} did not come"


def delivered(gateway: Gateway, headers: httpx.Headers) -> int:
    """Output tokens that an aborted stream was charged."""
    record = gateway.record(headers)
    assert (record.settlement, record.outcome) == ("aborted", "aborted")
    assert record.usage is not None
    assert record.usage.input_tokens == (record.estimate or {})["input_tokens"]
    return record.usage.output_tokens


@pytest.fixture
def gate(provider: ScriptedProvider) -> Gate:
    """Lets the provider's stream of twenty words through, one chunk for each permit; three are given: the
    role, and two words."""
    gate = Gate()
    provider.script = Script(text=TEXT, pieces=20, gate=gate)
    gate.let(3)
    return gate


def test_a_client_that_leaves_a_stream_pays_for_what_was_delivered_and_the_provider_is_told(
    gateway: Gateway, http: httpx.Client, provider: ScriptedProvider, gate: Gate
) -> None:
    with http.stream("POST", CHAT, json=STREAM) as answer:
        read_until(answer.iter_lines(), "word1")
    assert delivered(gateway, answer.headers) == count_tokens(["word0 word1"])
    until(lambda: provider.exchanges[0].disconnected_at)
    assert provider.exchanges[0].chunks_sent == 3


def test_a_stream_that_the_provider_breaks_off_is_charged_for_what_came(
    gateway: Gateway, http: httpx.Client, provider: ScriptedProvider, gate: Gate
) -> None:
    provider.script = replace(provider.script, breaks_after=4)
    with http.stream("POST", CHAT, json=STREAM) as answer:
        lines = answer.iter_lines()
        read_until(lines, "word1")
        gate.let(1)
        rest = "".join(lines)
    assert "litellm.APIConnectionError" in rest, "LiteLLM's own error event"
    assert delivered(gateway, answer.headers) == count_tokens(["word0 word1 word2"])


def test_while_litellm_is_away_calls_get_502_and_cost_nothing_and_once_it_is_back_they_pass(
    gateway: Gateway, http: httpx.Client, litellm: LiteLLM, provider: ScriptedProvider, gate: Gate
) -> None:
    with http.stream("POST", CHAT, json=STREAM) as broken:
        lines = broken.iter_lines()
        read_until(lines, "word1")
        with litellm.restarting():
            assert '"code":"upstream_unreachable"' in "".join(lines)
            assert delivered(gateway, broken.headers) == count_tokens(["word0 word1"])
            for body in (BODY, STREAM):
                away = http.post(CHAT, json=body)
                assert (away.status_code, away.json()["error"]["code"]) == (502, "upstream_unreachable")
                record = gateway.record(away.headers)
                assert (record.cost_usd, record.outcome) == ("0.000000000", "upstream_error")
    provider.script = Script()
    assert http.post(CHAT, json=BODY).status_code == 200
