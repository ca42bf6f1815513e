"""Every official SDK tries again when the provider is overloaded: the call is in the books once, the failure costs
nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.testing import Script

HELLO: Any = [{"role": "user", "content": "Hello there"}]


def chat(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=SECRET) as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)


def responses(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=SECRET) as client:
        client.responses.create(model="gpt-4o-mini", input=HELLO)


def messages(url: str) -> None:
    with anthropic.Anthropic(base_url=url, api_key=SECRET) as client:
        client.messages.create(model="claude-sonnet-5", messages=HELLO, max_tokens=50)


def generate_content(url: str) -> None:
    retries = types.HttpRetryOptions(attempts=2, initial_delay=0.01)  # it has to be asked to
    options = types.HttpOptions(base_url=url, retry_options=retries)
    with genai.Client(api_key=SECRET, http_options=options) as client:
        client.models.generate_content(model="gemini-2.5-flash", contents="Hello there")


@pytest.mark.parametrize("call", [chat, responses, messages, generate_content])
def test_a_call_that_the_sdk_tries_again_is_charged_once(
    run_sidecar: Callable[..., RunningSidecar], gov_store: str, call: Callable[[str], None]
) -> None:
    sidecar, books = run_sidecar(), Books(gov_store)
    sidecar.provider.next(Script(status=503, headers=((b"retry-after-ms", b"1"),)))
    call(sidecar.url)
    failed, answered = until(lambda: found if len(found := books.records()) == 2 else None)
    assert failed.usage is None or failed.usage.total_tokens == 0
    assert Decimal(failed.cost_usd or 0) == 0 < Decimal(answered.cost_usd or 0)
    assert (answered.settlement, len(sidecar.provider.exchanges)) == ("exact", 2)
    assert books.usage()["requests"] == 2
    assert books.audit().differences == []
