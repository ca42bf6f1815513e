"""Fields by which LiteLLM would do more than a call is judged to cost: refused, as LiteLLM heeds them."""

from __future__ import annotations

import httpx
import pytest
from tests.litellm.conftest import Gateway
from tests.litellm.proxy import MASTER_KEY, LiteLLM

from govmiddleware.testing import ScriptedProvider

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
LIFTED = BODY | {"additional_drop_params": ["max_tokens"]}


def test_litellm_drops_max_tokens_where_a_client_says_so(
    litellm: LiteLLM, gateway: Gateway, http: httpx.Client, provider: ScriptedProvider
) -> None:
    direct = httpx.post(litellm.url + CHAT, json=LIFTED, headers={"authorization": f"Bearer {MASTER_KEY}"})
    assert direct.json()["usage"]["completion_tokens"] == 9
    provider.exchanges.clear()
    refused = http.post(CHAT, json=LIFTED)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "additional_drop_params")
    assert provider.exchanges == []


@pytest.mark.parametrize("field", ["num_retries", "timeout", "request_timeout", "stream_timeout"])
def test_no_client_has_litellm_cut_and_repeat_a_call(http: httpx.Client, field: str) -> None:
    refused = http.post(CHAT, json=BODY | {field: 1})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, field)
    assert http.post(CHAT, json=BODY, headers={f"x-litellm-{field.replace('_', '-')}": "0.001"}).is_success


@pytest.mark.parametrize("path", ["/v1/ocr", "/v1/rerank", "/openai/v1/chat"])
def test_litellms_other_ways_to_a_model_are_not_open(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json=BODY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "route_not_metered")
