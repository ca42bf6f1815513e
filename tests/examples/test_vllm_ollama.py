"""examples/vllm_ollama: one address for a vLLM and an Ollama, each asked in its own dialect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import ollama
import openai
import pytest
from tests.examples.conftest import Example
from tests.sidecar.books import Books
from tests.sidecar.waiting import until

from govmiddleware import Governance
from govmiddleware.services.records import Record
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import ScriptedProvider, serve_in_thread

HELLO: Any = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def vllm() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
def gateway(
    example: Callable[[str], Example], vllm: ScriptedProvider, provider: ScriptedProvider, provider_url: str
) -> Iterator[tuple[Example, str]]:
    """The example in front of two scripted providers, and its URL."""
    files = example("vllm_ollama")
    with serve_in_thread(vllm) as server:
        files.change("govmiddleware.toml", 'url = "http://127.0.0.1:8000"', f'url = "{server.url}"')
        files.change("govmiddleware.toml", 'url = "http://127.0.0.1:11434"', f'url = "{provider_url}"')
        with serve_in_thread(Sidecar(Governance.from_settings("govmiddleware.toml"))) as sidecar:
            yield files, sidecar.url


def records(books: Books, count: int) -> list[Record]:
    return until(lambda: found if len(found := books.records()) == count else None)


def test_each_model_is_asked_where_it_is_and_none_without_a_bound(
    gateway: tuple[Example, str], vllm: ScriptedProvider, provider: ScriptedProvider, books: Books
) -> None:
    files, url = gateway
    answers = list(files.requests("govmiddleware.toml", url))
    assert [answer.status_code for answer in answers] == [200, 200]
    [to_vllm], [to_ollama] = vllm.exchanges, provider.exchanges
    assert to_vllm.body is not None
    assert to_ollama.body is not None
    assert (to_vllm.path, to_vllm.body["max_tokens"]) == ("/v1/chat/completions", 2048)
    assert (to_ollama.path, to_ollama.body["options"]["num_predict"]) == ("/api/chat", 2048)
    told = [(record.provider, record.protocol, record.settlement) for record in records(books, 2)]
    assert told == [("vllm", "openai.chat", "exact"), ("ollama", "ollama.chat", "exact")]
    assert books.audit().ok


def test_a_vllm_stream_that_says_its_usage_all_along_counts_once(
    gateway: tuple[Example, str], books: Books
) -> None:
    files, url = gateway
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    extra = {"min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}}  # vLLM's own
    with openai.OpenAI(base_url=f"{url}/v1", api_key=files.token) as client:
        stream = client.chat.completions.create(
            model="Qwen/Qwen3-8B", stream=True, stream_options=options, extra_body=extra, **HELLO
        )
        usages = [chunk.usage.completion_tokens for chunk in stream if chunk.usage]
    assert usages == sorted(usages)
    assert len(set(usages)) > 2
    [record] = records(books, 1)
    assert record.usage is not None
    assert (record.usage.output_tokens, record.settlement) == (usages[-1], "exact")


def test_an_ollama_is_asked_by_its_own_sdk_and_by_openais(
    gateway: tuple[Example, str], provider: ScriptedProvider, books: Books
) -> None:
    files, url = gateway
    with closing(ollama.Client(host=url, headers=files.authorization)) as client:
        parts = client.chat("llama3.2", HELLO["messages"], stream=True)
        assert "".join(part.message.content or "" for part in parts) == provider.script.text
    with openai.OpenAI(base_url=f"{url}/v1", api_key=files.token) as openai_client:
        answer = openai_client.chat.completions.create(model="llama3.2", **HELLO)
    assert answer.choices[0].message.content == provider.script.text
    told = [(record.protocol, record.cost_usd) for record in records(books, 2)]
    assert told == [("ollama.chat", "0.000000000"), ("openai.chat", "0.000000000")]
