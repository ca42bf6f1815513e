"""Ways past a limit that were found, and are closed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import httpx
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

from govmiddleware.testing import Script

Run = Callable[..., RunningSidecar]
HEADERS = {"authorization": f"Bearer {SECRET}"}
SLOT = {"name": "slot", "scope": "api_token", "meter": "concurrency", "hard": 1}


def body(**fields: object) -> dict[str, object]:
    hello = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
    return hello | fields


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "gpt-4o-mini,o1-pro"},
        {"model": "gpt-4o-mini o1-pro"},
        {"models": ["o1-pro"]},
        {"fallbacks": ["o1-pro"]},
        {"user_config": {"model_list": []} | {"a": 1}},
        {"extra_body": {"model": "o1-pro"}},
        {"MODEL": "o1-pro"},
        {"max_tokens": 0},
        {"max_completion_tokens": 0},
    ],
    ids=lambda fields: "+".join(fields),
)
def test_a_body_that_could_cost_more_than_it_is_judged_to_is_refused(
    run_sidecar: Run, fields: dict[str, object]
) -> None:
    sidecar = run_sidecar()
    answer = httpx.post(f"{sidecar.url}/v1/chat/completions", json=body(**fields), headers=HEADERS)
    assert answer.status_code == 400
    assert sidecar.provider.exchanges == []


@pytest.mark.parametrize("slashes", ["", "/", "//"])
def test_a_model_in_the_path_must_be_the_one_in_the_body(run_sidecar: Run, slashes: str) -> None:
    url = f"{run_sidecar().url}/openai/deployments/o1-pro/chat/completions{slashes}"
    answer = httpx.post(url, json=body(), headers=HEADERS)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_what_was_judged_as_json_is_sent_on_as_json(run_sidecar: Run) -> None:
    sidecar = run_sidecar()
    form = HEADERS | {"content-type": "application/x-www-form-urlencoded"}
    smuggled = json.dumps(body(a="&model=o1-pro&z="))
    answer = httpx.post(f"{sidecar.url}/v1/chat/completions", content=smuggled, headers=form)
    assert answer.status_code == 200
    assert sidecar.provider.exchanges[0].header(b"content-type") == b"application/json"


def test_a_prompt_in_a_field_that_nobody_knows_is_counted(run_sidecar: Run, gov_store: str) -> None:
    sidecar = run_sidecar()
    documents = [{"text": "word " * 2000}]
    httpx.post(f"{sidecar.url}/v1/chat/completions", json=body(documents=documents), headers=HEADERS)
    [record] = Books(gov_store).records()
    assert (record.estimate or {})["input_tokens"] > 2000


def test_a_token_of_ours_is_not_forwarded_in_any_header(run_sidecar: Run) -> None:
    sidecar = run_sidecar(upstream_auth="forward")
    token = "gov_" + "a" * 36
    odd = HEADERS | {"x-portkey-api-key": token, "helicone-auth": f"Bearer {token}"}
    httpx.post(f"{sidecar.url}/v1/chat/completions", json=body(), headers=odd)
    assert token.encode() not in b"".join(value for _, value in sidecar.provider.exchanges[0].headers)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_calls_one_after_the_other_needs_one_slot(run_sidecar: Run, stream: bool) -> None:
    sidecar = run_sidecar(limits=[SLOT])
    with httpx.Client(headers=HEADERS) as client:
        url = f"{sidecar.url}/v1/chat/completions"
        statuses = [client.post(url, json=body(stream=stream)).status_code for _ in range(60)]
    assert set(statuses) == {200}


def test_who_has_the_answer_finds_it_in_the_books(run_sidecar: Run, gov_store: str) -> None:
    sidecar = run_sidecar()
    books = Books(gov_store)
    for calls in range(1, 6):
        httpx.post(f"{sidecar.url}/v1/chat/completions", json=body(), headers=HEADERS)
        assert len(books.records()) == calls


USAGE = {"prompt_tokens": 1, "completion_tokens": 1}
WHOLE = json.dumps({"choices": [], "usage": USAGE}).encode()


@pytest.mark.parametrize(
    ("answer", "headers"),
    [
        (b"\x8b\x03\x80br", ((b"content-encoding", b"br"),)),
        (WHOLE[:-9], ()),
        (b"<html>hello</html>", ()),
        (gzip.compress(WHOLE)[:-20], ((b"content-encoding", b"gzip"),)),
    ],
    ids=["an encoding that is none", "truncated", "no JSON", "truncated gzip"],
)
def test_an_answer_that_nobody_can_read_is_charged_as_reserved(
    run_sidecar: Run, gov_store: str, answer: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    sidecar = run_sidecar()
    sidecar.provider.script = Script(body=answer, headers=headers)
    with httpx.stream("POST", f"{sidecar.url}/v1/chat/completions", json=body(), headers=HEADERS) as answered:
        assert b"".join(answered.iter_raw()) == answer
    [record] = until(Books(gov_store).records)
    assert (record.settlement, record.cost_usd) == ("estimated", (record.bound or {})["cost_usd"])


def test_guesses_at_the_admin_token_are_throttled(run_sidecar: Run) -> None:
    sidecar = run_sidecar(admin_token="right", login_throttle="3/minute")
    url = f"{sidecar.url}/gov/api/v1/usage"
    guesses = [*(f"wrong{n}" for n in range(4)), "right"]
    statuses = [httpx.get(url, headers={"authorization": f"Bearer {guess}"}).status_code for guess in guesses]
    assert statuses == [401, 401, 401, 429, 429]
