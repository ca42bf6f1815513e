"""A request that waits for people instead of being refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import RunningSidecar
from tests.sidecar.people import NOBODY, PEOPLE, Client, audit_entries
from tests.sidecar.waiting import until

from govmiddleware.services import override_wait

Run = Callable[..., RunningSidecar]

RATE = {"name": "rate", "scope": "api_token", "meter": "requests", "rate": "100/minute"}
MONEY = {"name": "money", "scope": "user", "meter": "cost_usd", "window": "month", "hard": "0.000001"}
EVERYWHERE = {"name": "all", "scope": "deployment", "meter": "cost_usd", "window": "month", "hard": 100}
MODEL = {"model": "m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 10}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(12) as pool:
        yield pool


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govmiddleware.app.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("govmiddleware.app.CARE_SECONDS", 0.1)
    monkeypatch.setattr("govmiddleware.services.overrides.CARE_SECONDS", 0.1)


@pytest.fixture
def patient(run_sidecar: Run) -> Callable[..., RunningSidecar]:
    """A sidecar whose requests wait."""

    def run(seconds: float = 10, **settings: Any) -> RunningSidecar:
        given = {"limits": [RATE, MONEY, EVERYWHERE], "prices": [MODEL], **settings}
        return run_sidecar(api_tokens=PEOPLE, override_wait_seconds=seconds, **given)

    return run


def chat(sidecar: RunningSidecar, **options: Any) -> Any:
    client = openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="bob", max_retries=0)
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50, **options}
    return client.chat.completions.create(**asked)


def waiting(sidecar: RunningSidecar, count: int = 1) -> list[dict[str, Any]]:
    """The requests for overrides once there are so many."""

    def found() -> list[dict[str, Any]] | None:
        asked = Client("alice", sidecar.url).overrides(state="requested")
        return asked if len(asked) == count else None

    return until(found)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_waits_is_let_through_once_somebody_says_yes(
    patient: Run, pool: ThreadPoolExecutor, gov_store: str, tmp_path: Path, stream: bool
) -> None:
    sidecar, books = patient(slice_output_tokens=20), Books(gov_store)
    answer = pool.submit(lambda: list(chat(sidecar, stream=True)) if stream else chat(sidecar))
    [asked] = waiting(sidecar)
    assert (asked["limit"], asked["value"], asked["requester"]) == ("money", "bob", "api_token:bob")
    assert (sidecar.provider.exchanges, books.open_reservations()) == ([], 0), "it holds nothing"
    Client("alice", sidecar.url).decide(asked["id"], "approve")
    assert answer.result(10)
    actions = [(actor, action) for actor, action, _ in audit_entries(tmp_path / "gov")]
    assert actions[:2] == [("api_token:bob", "requested"), ("api_token:alice", "approved")]
    [record] = until(books.records)
    evaluations = {each.limit: each for each in record.evaluations}
    assert evaluations.keys() == {"rate", "money", "all"}
    assert (evaluations["money"].decision, evaluations["money"].overrides) == ("warn", [asked["id"]])
    [shown] = Client("bob", sidecar.url).overrides()
    assert record.cost_usd == f"{Decimal(shown['used']) + Decimal(MONEY['hard']):.9f}"
    assert books.audit().ok


def test_a_denied_request_gets_the_refusal_that_it_would_have_got(
    patient: Run, pool: ThreadPoolExecutor
) -> None:
    sidecar = patient()
    answer = pool.submit(chat, sidecar)
    [asked] = waiting(sidecar)
    Client("alice", sidecar.url).decide(asked["id"], "deny")
    with pytest.raises(openai.RateLimitError, match="'money'"):
        answer.result(10)
    assert sidecar.provider.exchanges == []


def test_a_request_that_waits_too_long_is_refused_and_can_be_approved_later(patient: Run) -> None:
    sidecar = patient(0.2)
    with pytest.raises(openai.RateLimitError, match="'money'"):
        chat(sidecar)
    [asked] = waiting(sidecar)
    with pytest.raises(openai.RateLimitError):
        chat(sidecar)
    assert len(waiting(sidecar)) == 1, "it is asked for once"
    Client("alice", sidecar.url).decide(asked["id"], "approve")
    assert chat(sidecar)


def test_a_decision_at_another_replica_is_heard_of(patient: Run, pool: ThreadPoolExecutor) -> None:
    one, other = patient(), patient()
    answer = pool.submit(chat, one)
    [asked] = waiting(one)
    assert Client("alice", other.url).decide(asked["id"], "approve").status_code == 200
    assert answer.result(10)
    answer = pool.submit(chat, one, max_tokens=500)
    [asked] = waiting(one)
    assert Client("alice", other.url).decide(asked["id"], "deny").status_code == 200
    with pytest.raises(openai.RateLimitError):
        answer.result(10)


def test_a_rate_is_not_waited_for(patient: Run) -> None:
    sidecar = patient(limits=[{**RATE, "rate": "1/minute"}])
    assert [Client("bob", sidecar.url).call() for _ in range(2)] == [200, 429]
    assert Client("bob", sidecar.url).overrides() == []


def test_a_budget_of_requests_is_waited_for_before_the_body_is_read(
    patient: Run, pool: ThreadPoolExecutor
) -> None:
    sidecar = patient(5, limits=[NOBODY])
    answers = [pool.submit(chat, sidecar) for _ in range(2)]
    [asked] = waiting(sidecar)
    Client("olga", sidecar.url).decide(asked["id"], "approve")
    outcomes = [answer.exception(20) for answer in answers]  # one that comes late asks for another, in vain
    assert sorted(map(str, map(type, outcomes))) == sorted(map(str, (type(None), openai.RateLimitError)))
    assert len(sidecar.provider.exchanges) == 1, "an override worth one lets one of two through"


def test_a_client_that_leaves_ends_its_wait(
    patient: Run, gov_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(override_wait, "_MOST_WAITING", 1)
    sidecar = patient(60)
    with pytest.raises(openai.APITimeoutError):
        chat(sidecar, timeout=1)
    [asked] = waiting(sidecar)
    [record] = until(lambda: Books(gov_store).records("refusal"))
    assert (record.outcome, record.status) == ("client_closed_request", 499)
    Client("alice", sidecar.url).decide(asked["id"], "approve")
    assert chat(sidecar), "its place is free"


def test_no_more_calls_wait_than_a_worker_takes(
    patient: Run, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(override_wait, "_MOST_WAITING", 1)
    sidecar = patient()
    answer = pool.submit(chat, sidecar)
    [asked] = waiting(sidecar)
    with pytest.raises(openai.RateLimitError):
        chat(sidecar)
    Client("alice", sidecar.url).decide(asked["id"], "approve")
    assert answer.result(10)
