"""Which headers and names cross us on their way between a client and LiteLLM."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import httpx
import pytest
from tests.litellm.conftest import SECRET, Gateway
from tests.litellm.proxy import MASTER_KEY, LiteLLM
from tests.sidecar.processes import govmiddleware

from govmiddleware.core.ids import hash_api_token
from govmiddleware.testing import ScriptedProvider

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
CHANGING = {"date", "content-length", "x-litellm-call-id"}
"""Headers whose values differ from call to call."""


def shape(headers: httpx.Headers) -> dict[str, str]:
    """The headers, without the values of those that measure or count."""
    measured = ("duration-ms", "request-id", "key-spend")
    return {
        name: "" if name in CHANGING or name.endswith(measured) else value for name, value in headers.items()
    }


@pytest.mark.parametrize("stream", [False, True])
def test_litellms_headers_reach_the_client_unharmed(
    gateway: Gateway, http: httpx.Client, litellm: LiteLLM, provider: ScriptedProvider, stream: bool
) -> None:
    direct = httpx.post(
        litellm.url + CHAT,
        json=BODY | {"stream": stream},
        headers={"authorization": f"Bearer {MASTER_KEY}", "accept-encoding": "identity"},
        timeout=30,
    )
    through = http.post(CHAT, json=BODY | {"stream": stream}, headers={"accept-encoding": "identity"})
    added = {name for name in through.headers if name.startswith("x-gov-")}
    assert added == {"x-gov-request-id", "x-gov-estimated-cost-usd", "x-gov-budget-remaining-usd"}
    seen = {name: value for name, value in shape(through.headers).items() if name not in added}
    assert seen == shape(direct.headers)
    assert seen["x-litellm-model-group"] == "gpt-3.5-turbo"


def test_litellms_names_for_the_caller_count_here_and_reach_litellm_and_ours_stay(
    gateway: Gateway, http: httpx.Client, provider: ScriptedProvider
) -> None:
    litellms = {
        "x-litellm-end-user-id": "ann",
        "x-litellm-session-id": "session-1",
        "x-litellm-tags": "team=search,urgent",
    }
    answer = http.post(CHAT, json=BODY | {"user": "bob"}, headers=litellms | {"x-gov-agent": "coder"})
    record = gateway.record(answer.headers)
    assert (record.user, record.session, record.agent) == ("ann", "session-1", "coder")
    assert record.tags == {"team": "search", "tag": "urgent"}
    [exchange] = provider.exchanges
    passed_on = {name.decode(): value.decode() for name, value in exchange.headers}
    assert litellms.items() <= passed_on.items()
    assert passed_on["x-request-id"] == record.request_id
    assert not any(name.startswith("x-gov-") for name in passed_on)
    assert exchange.body is not None
    assert exchange.body["user"] == "bob"


def test_a_body_that_curl_calls_a_form_is_read_by_litellm_as_the_json_it_is(
    http: httpx.Client, provider: ScriptedProvider
) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = http.post(CHAT, content=json.dumps(BODY), headers=form)
    assert (answer.status_code, len(provider.exchanges)) == (200, 1)


def test_with_replace_a_key_of_the_client_for_litellm_is_dropped(
    http: httpx.Client, provider: ScriptedProvider
) -> None:
    # LiteLLM prefers this header to the other one, and would answer 400.
    answer = http.post(CHAT, json=BODY, headers={"x-litellm-api-key": "Bearer sk-of-the-client"})
    assert answer.status_code == 200


@pytest.fixture(scope="module")
def forwarding(
    govern: Callable[..., Gateway], litellm: LiteLLM, tmp_path_factory: pytest.TempPathFactory
) -> Gateway:
    """LiteLLM's key came by its hash, out of its table."""
    gateway = govern(
        f"""
        upstream_auth = "forward"
        [[upstreams]]
        name = "litellm"
        url = "{litellm.url}"
        litellm_headers = true
        """,
        upstream=None,
    )
    keys = tmp_path_factory.mktemp("exported") / "LiteLLM_VerificationToken.csv"
    keys.write_text(
        "token,key_alias,user_id,team_id,blocked,expires\n"
        f"{hash_api_token(MASTER_KEY)},ann's laptop,ann,search,f,\n"
    )
    command = ["token", "import", str(keys), "--workspace", "acme", "--config", str(gateway.config)]
    subprocess.run(govmiddleware(*command), check=True, capture_output=True)
    return gateway


@pytest.mark.parametrize(
    ("credentials", "status"),
    [
        # LiteLLM's key is known to us too, by its hash: clients go on as before.
        ({"authorization": f"Bearer {MASTER_KEY}"}, 200),
        # Each has a key of its own.
        ({"authorization": f"Bearer {SECRET}", "x-litellm-api-key": f"Bearer {MASTER_KEY}"}, 200),
        # Ours is not LiteLLM's: it answers with an error of its own.
        ({"authorization": f"Bearer {SECRET}"}, 400),
        ({"authorization": "Bearer nobody"}, 401),
    ],
)
def test_with_forward_litellm_judges_the_clients_own_key(
    forwarding: Gateway, provider: ScriptedProvider, credentials: dict[str, str], status: int
) -> None:
    answer = httpx.post(forwarding.url + CHAT, json=BODY, headers=credentials, timeout=30)
    assert answer.status_code == status, answer.text
    assert len(provider.exchanges) == (status == 200)


def test_with_litellm_headers_litellm_hears_of_whom_the_call_counts_for(
    forwarding: Gateway, provider: ScriptedProvider
) -> None:
    headers = {
        "authorization": f"Bearer {MASTER_KEY}",
        "x-gov-session": "s-1",
        "x-litellm-customer-id": "mallory",
        "x-litellm-tags": "team=other,urgent",
    }
    answer = httpx.post(forwarding.url + CHAT, json=BODY, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    record = forwarding.record(answer.headers)
    assert (record.api_token, record.user, record.session) == ("ann's laptop", "ann", "s-1")
    [exchange] = provider.exchanges
    passed_on = {name.decode(): value.decode() for name, value in exchange.headers}
    assert {name: value for name, value in passed_on.items() if name.startswith("x-litellm-")} == {
        "x-litellm-end-user-id": "ann",
        "x-litellm-session-id": "s-1",
        "x-litellm-tags": "urgent,team=search",
    }
