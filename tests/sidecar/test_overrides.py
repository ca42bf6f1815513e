"""Requester, approver and owner as clients over HTTP, and what their decisions let pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
from tests.sidecar.conftest import RunningSidecar
from tests.sidecar.people import ADMIN, NOBODY, PEOPLE, Client, at_once, audit_entries, calls_at_once
from tests.sidecar.waiting import until

from govmiddleware.core.ids import hash_api_token, new_api_token
from govmiddleware.core.registries import StoredApiToken
from govmiddleware.ledger.api_tokens import RedisApiTokens
from govmiddleware.ledger.connection import connect
from govmiddleware.testing.clock import Clock

Run = Callable[..., RunningSidecar]
Say = Callable[[str], Client]

SUBJECT = "usage-budget:nobody:acme"
LIMITS = [NOBODY, {**NOBODY, "name": "two", "meter": "total_tokens", "hard": 10, "approvals_required": 2}]


@pytest.fixture
def sidecar(run_sidecar: Run, gov_clock: Clock) -> RunningSidecar:
    return run_sidecar(api_tokens=PEOPLE, limits=LIMITS, admin_token=ADMIN, clock=gov_clock)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """At what is spent or has expired: a tenth of a second."""
    monkeypatch.setattr("govmiddleware.app.CARE_SECONDS", 0.1)
    monkeypatch.setattr("govmiddleware.services.overrides.CARE_SECONDS", 0.1)


@pytest.fixture
def says(sidecar: RunningSidecar) -> Say:
    """A client of the person whose token has this name."""
    return lambda name: Client(name, sidecar.url)


@pytest.fixture
def entries(tmp_path: Path) -> Callable[[], list[tuple[str, str, str]]]:
    return lambda: audit_entries(tmp_path / "gov")


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_an_approved_override_lets_one_pass_and_is_spent(says: Say, entries) -> None:
    bob, alice = says("bob"), says("alice")
    assert bob.call() == 429
    asked = bob.ask()
    assert asked.status_code == 201
    override = asked.json()
    assert override == {
        "id": override["id"],
        "subject": SUBJECT,
        "workspace": "acme",
        "limit": "nobody",
        "value": "acme",
        "state": "requested",
        "amount": 1,
        "factor": None,
        "used": 0,
        "remaining": 1,
        "reason": "the release",
        "requester": "api_token:bob",
        "for_user": None,
        "requested_at": override["requested_at"],
        "decide_by": override["decide_by"],
        "seconds": 600,
        "until": None,
        "approvals": [],
        "approvals_required": 1,
    }
    assert bob.call() == 429
    approved = alice.decide(override["id"], "approve", reason="go").json()
    assert (approved["state"], approved["approvals"][0]["by"]) == ("approved", "api_token:alice")
    assert [bob.call(), bob.call()] == [200, 429], "at once where it was approved"
    spent = until(lambda: bob.overrides(state="spent"))
    assert (spent[0]["id"], spent[0]["used"], spent[0]["remaining"]) == (override["id"], 1, 0)
    assert entries() == [
        ("api_token:bob", "requested", SUBJECT),
        ("api_token:alice", "approved", SUBJECT),
        ("system", "spent", SUBJECT),
    ]


def test_of_a_hundred_requests_at_two_replicas_an_override_worth_one_passes_one(
    run_sidecar: Run, sidecar: RunningSidecar, says: Say
) -> None:
    other = run_sidecar(api_tokens=PEOPLE, limits=LIMITS, clock=sidecar.governance.overrides._now_ms)
    override = says("bob").ask().json()["id"]
    assert says("olga").decide(override, "approve").status_code == 200
    until(lambda: override in other.governance._raises)
    statuses = calls_at_once([sidecar.url, other.url], "bob", 100)
    assert sorted(statuses) == [200] + [429] * 99
    until(lambda: says("bob").overrides(state="spent"))


def test_nobody_approves_what_they_asked_for(says: Say, entries) -> None:
    override = says("bobs-other").ask().json()["id"]
    assert code(says("bobs-other").decide(override, "approve")) == (403, "self_approval")
    assert code(says("bob").decide(override, "approve")) == (403, "forbidden"), "an operator decides nothing"
    override = says("bob").ask(value="acme").json()["id"]
    assert code(says("bobs-other").decide(override, "approve")) == (403, "self_approval"), "the same user"
    override = says("oscar").ask(for_user="alice").json()["id"]
    assert code(says("alice").decide(override, "approve")) == (403, "self_approval"), "it is for her"
    assert [action for _, action, _ in entries()] == ["requested"] * 3


def test_two_people_approve_where_the_limit_asks_for_two(says: Say, entries) -> None:
    override = says("bob").ask("two", factor=2, amount=None).json()["id"]
    first = says("alice").decide(override, "approve").json()
    assert (first["state"], first["until"], len(first["approvals"])) == ("requested", None, 1)
    assert code(says("alice").decide(override, "approve")) == (409, "already_approved")
    second = says("olga").decide(override, "approve").json()
    assert (second["state"], len(second["approvals"])) == ("approved", 2)
    assert [(actor, action) for actor, action, _ in entries()][1:] == [
        ("api_token:alice", "approval"),
        ("api_token:olga", "approved"),
    ]


def test_a_revoked_override_lets_nothing_pass_any_more(
    run_sidecar: Run, sidecar: RunningSidecar, says: Say, entries
) -> None:
    other = run_sidecar(api_tokens=PEOPLE, limits=LIMITS, clock=sidecar.governance.overrides._now_ms)
    override = says("bob").ask(amount=3).json()["id"]
    says("alice").decide(override, "approve")
    until(lambda: override in other.governance._raises)
    assert says("bob").call() == 200
    revoked = says("olga").decide(override, "revoke").json()
    assert (revoked["state"], revoked["used"], revoked["remaining"]) == ("revoked", 1, 0)
    assert Client("bob", other.url).call() == 429, "whatever its two seconds old view says"
    assert says("bob").call() == 429
    assert code(says("olga").decide(override, "revoke")) == (409, "already_decided")
    assert entries()[-1] == ("api_token:olga", "revoked", SUBJECT)


def test_an_override_ends_when_its_time_does(says: Say, gov_clock: Clock, entries) -> None:
    override = says("bob").ask(amount=3, seconds=60).json()["id"]
    says("alice").decide(override, "approve")
    gov_clock.advance(59)
    assert says("bob").call() == 200
    gov_clock.advance(1)
    assert says("bob").call() == 429, "by the store's clock"
    until(lambda: says("bob").overrides(state="expired"))
    assert entries()[-1] == ("system", "expired", SUBJECT)
    assert code(says("olga").decide(override, "revoke")) == (409, "already_decided")


def test_a_request_that_nobody_decides_expires(says: Say, gov_clock: Clock, entries) -> None:
    override = says("bob").ask().json()["id"]
    gov_clock.advance(24 * 3600)
    assert code(says("alice").decide(override, "approve")) == (409, "already_decided")
    until(lambda: says("bob").overrides(state="expired"))
    assert entries()[-1] == ("system", "expired", SUBJECT)
    assert says("bob").ask().status_code == 201


def test_a_denied_request_lets_nothing_pass(says: Say, entries) -> None:
    override = says("bob").ask().json()["id"]
    assert code(says("bob").ask()) == (409, "already_requested")
    assert says("alice").decide(override, "deny", reason="no").json()["state"] == "denied"
    assert code(says("olga").decide(override, "approve")) == (409, "already_decided")
    assert says("bob").call() == 429
    again = says("bob").ask().json()["id"]
    assert says("bob").decide(again, "deny").json()["state"] == "denied", "who asked may take it back"
    assert [action for _, action, _ in entries()] == ["requested", "denied", "requested", "denied"]


def test_of_decisions_at_the_same_moment_one_counts(says: Say, entries) -> None:
    def decide(override: str, *decisions: tuple[str, str]) -> list[httpx.Response]:
        return at_once(*(partial(says(who).decide, override, what) for who, what in decisions))

    for _ in range(4):
        override = says("bob").ask().json()["id"]
        answers = decide(
            override, ("alice", "approve"), ("olga", "approve"), ("alice", "deny"), ("olga", "deny")
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        [done] = [answer for answer in answers if answer.status_code == 200]
        if done.json()["state"] == "approved":
            answers = decide(override, ("alice", "revoke"), ("olga", "revoke"))
            assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len([action for _, action, _ in entries() if action in ("approved", "denied")]) == 4


def test_of_requests_at_the_same_moment_one_is_filed(says: Say) -> None:
    answers = at_once(*(says("bob").ask for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5


def test_who_has_asked_for_much_waits_for_a_decision(says: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govmiddleware.services.overrides._MOST_UNDECIDED", 1)
    override = says("bob").ask().json()["id"]
    assert code(says("bob").ask("two")) == (429, "too_many_requested")
    assert says("oscar").ask("two").status_code == 201
    says("bob").decide(override, "deny")
    assert says("bob").ask("two").status_code == 201


def test_each_sees_and_decides_what_is_theirs(says: Say, gov_clock: Clock) -> None:
    own = says("bob").ask().json()["id"]
    gov_clock.advance(1)
    other = says("oscar").ask().json()["id"]
    shown = {
        name: [each["id"] for each in says(name).overrides()] for name in ("bob", "alice", "stranger", ADMIN)
    }
    assert shown == {"bob": [own], "alice": [other, own], "stranger": [], ADMIN: [other, own]}
    assert says("alice").overrides(limit="two") == []
    assert code(says("stranger").decide(own, "approve")) == (404, "override_not_found")
    assert code(says("alice").decide("ovr_none", "approve")) == (404, "override_not_found")
    assert says(ADMIN).decide(own, "approve").status_code == 200
    assert says("nobody's token").send("GET", "overrides").status_code == 401


WRONG: list[tuple[dict[str, object], str | None]] = [
    ({"amount": 0}, "amount"),
    ({"amount": 1.5}, "amount"),
    ({"amount": "1e400"}, "amount"),
    ({"amount": "NaN"}, "amount"),
    ({"factor": 2}, "amount"),
    ({"amount": None}, "amount"),
    ({"amount": None, "factor": 1}, "factor"),
    ({"amount": None, "factor": 1000}, "factor"),
    ({"amount": None, "factor": "2"}, "factor"),
    ({"seconds": 0}, "seconds"),
    ({"seconds": 10**8}, "seconds"),
    ({"seconds": 1.5}, None),
    ({"reason": " "}, "reason"),
    ({"reason": "x" * 501}, "reason"),
    ({"reason": "a\nb"}, "reason"),
    ({"value": "umbrella"}, "value"),
    ({"workspace": "umbrella"}, "workspace"),
    ({"colour": 1}, None),
]


def test_what_cannot_be_asked_for_is_a_400_that_says_why(says: Say) -> None:
    for asked, param in WRONG:
        answer = says("bob").ask(**asked)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), asked
    assert says("bob").overrides() == []


def test_limits_that_bind_somebody_else_or_refuse_nothing_are_not_overridden(run_sidecar: Run) -> None:
    limits = [
        {**NOBODY, "name": "theirs", "workspace": "umbrella"},
        {**NOBODY, "name": "dry", "mode": "dry_run"},
    ]
    bob = Client("bob", run_sidecar(api_tokens=PEOPLE, limits=limits).url)
    assert code(bob.ask("theirs")) == (404, "limit_not_found")
    assert code(bob.ask("none")) == (404, "limit_not_found")
    assert code(bob.ask("dry")) == (400, "invalid_request")


def test_the_value_is_the_askers_own_where_it_is_known(run_sidecar: Run) -> None:
    scopes = {
        "user": "bob",
        "api_token": "bob",
        "user+api_token": "bob|bob",
        "deployment": "deployment",
        "session": None,
    }
    limits = [{**NOBODY, "name": scope.replace("+", "-"), "scope": scope} for scope in scopes]
    url = run_sidecar(api_tokens=PEOPLE, limits=limits).url
    for scope, value in scopes.items():
        asked = Client("bob", url).ask(scope.replace("+", "-"))
        assert asked.json().get("value") == value, scope
        assert asked.status_code == (201 if value else 400)
    assert Client("alice", url).ask("user", for_user="carl").json()["value"] == "carl"
    assert Client("bob", url).ask("session", value="s1").json()["subject"] == "usage-budget:session:s1"


def test_a_limit_over_the_deployment_is_the_admins_to_raise(run_sidecar: Run) -> None:
    limit = {**NOBODY, "scope": "deployment"}
    url = run_sidecar(api_tokens=PEOPLE, limits=[limit], admin_token=ADMIN).url
    bob, olga, admin = Client("bob", url), Client("olga", url), Client(ADMIN, url)
    override = bob.ask().json()
    assert override["workspace"] == "*"
    assert code(olga.decide(override["id"], "approve")) == (404, "override_not_found")
    assert (olga.overrides(), len(bob.overrides())) == ([], 1)
    assert admin.decide(override["id"], "approve").status_code == 200
    assert [bob.call(), bob.call()] == [200, 429]


def test_a_stored_token_asks_and_decides_nothing_until_it_is_revoked(says: Say, gov_store: str) -> None:
    secret, stored = new_api_token(), StoredApiToken("tok_1", "stored", "acme", "owner", created_at=0)

    async def in_store(change: Callable[[RedisApiTokens], Awaitable[object]]) -> None:
        redis = connect(gov_store)
        await change(RedisApiTokens(redis))
        await redis.aclose()

    asyncio.run(in_store(lambda tokens: tokens.add(stored, hash_api_token(secret))))
    assert says(secret).ask().json()["requester"] == "api_token:stored"
    assert code(says(secret).decide(says("bob").ask().json()["id"], "approve")) == (403, "forbidden")
    asyncio.run(in_store(lambda tokens: tokens.revoke(stored)))
    assert code(says(secret).ask()) == (401, "invalid_api_key")
