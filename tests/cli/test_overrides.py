"""`govmiddleware override`: what people ask for and decide on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from redis import Redis
from tests.cli.conftest import Ran

from govmiddleware.core.ids import hash_api_token
from govmiddleware.ledger.keys import OVERRIDES

As = Callable[..., Ran]


@pytest.fixture
def as_(
    run: Callable[..., Ran],
    configured: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> As:
    """`as_(person, *arguments)` runs `override` with that person's token."""
    people = {"bob": "operator", "alice": "admin", "olga": "owner"}
    tokens = "\n".join(
        f'[[api_tokens]]\nname = "{name}"\nworkspace = "acme"\nrole = "{role}"\nuser = "{name}"\n'
        f'sha256 = "{hash_api_token(name)}"'
        for name, role in people.items()
    )
    limit = 'name = "money"\nscope = "user"\nmeter = "cost_usd"\nwindow = "month"\nhard = 5\napprovals_required = 2'
    configured(f'admin_token = "root"\n[[limits]]\n{limit}\n{tokens}')

    def run_as(person: str | None, *arguments: str) -> Ran:
        if person is None:
            monkeypatch.delenv("GOV_TOKEN", raising=False)
        else:
            monkeypatch.setenv("GOV_TOKEN", person)
        return run("override", *arguments)

    return run_as


def ask(as_: As, *more: str) -> str:
    asked = as_(
        "bob", "request", "money", "--reason", "the release", *(more or ("--amount", "2.5")), "--json"
    )
    assert asked.code == 0, asked.err
    override: str = json.loads(asked.out)["id"]
    return override


def test_an_override_is_asked_for_approved_by_two_and_revoked(as_: As, store: Redis) -> None:
    override = ask(as_, "--amount", "2.5", "--lasting", "2h")
    [shown] = json.loads(as_("bob", "list", "--json").out)
    assert (shown["value"], shown["amount"], shown["seconds"]) == ("bob", "2.500000000", 7200)
    subject = f"Override {override} of usage-budget:money:bob"
    assert as_("alice", "approve", override).told == (0, f"{subject} is requested, by 2 people.\n", "")
    assert as_("olga", "approve", override, "--reason", "fine").told == (
        0,
        f"{subject} is approved, by 2 people.\n",
        "",
    )
    assert list(store.hgetall(OVERRIDES)) == [override.encode()]
    assert "approved" in as_("bob", "list").out
    assert as_("alice", "revoke", override).out == f"{subject} is revoked, by 2 people.\n"
    assert store.hgetall(OVERRIDES) == {}
    assert as_("bob", "list", "--state", "approved", "--json").out == "[]\n"


def test_a_no_is_exit_code_1_and_says_which(as_: As) -> None:
    override = ask(as_, "--factor", "1.5")
    assert as_("bob", "approve", override).code == 1
    again = as_("bob", "request", "money", "--reason", "x", "--amount", "1")
    assert (again.code, again.err.rstrip()[-19:]) == (1, "(already_requested)")
    assert as_("alice", "deny", override).code == 0
    denied = as_("olga", "approve", override)
    assert denied.told == (1, "", "govmiddleware: The override is denied already. (already_decided)\n")
    unknown = as_("nobody", "list")
    assert (unknown.code, unknown.err) == (
        1,
        "govmiddleware: This API token is not known here. (invalid_api_key)\n",
    )


def test_the_admin_asks_for_a_workspace_and_somebody_else_approves(as_: As) -> None:
    asked = as_("root", "request", "money", "--reason", "x", "--amount", "1", "--value", "ann", "--workspace", "acme", "--json")  # fmt: skip
    override = json.loads(asked.out)
    assert (override["requester"], override["workspace"], override["value"]) == ("admin", "acme", "ann")
    assert as_("root", "approve", override["id"]).err.endswith("(self_approval)\n")
    assert as_("alice", "approve", override["id"]).code == 0
    assert len(json.loads(as_("root", "list", "--json").out)) == 1


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("--amount", "much"), "--amount"),
        (("--amount", "-1"), "--amount"),
        (("--factor", "0.5"), "--factor"),
        (("--amount", "1", "--lasting", "for ever"), "--lasting"),
        (("--amount", "1", "--lasting", "60d"), "--lasting"),
        ((), "--amount"),
    ],
)
def test_a_mistake_in_a_request_is_exit_code_2(as_: As, arguments: tuple[str, ...], key: str) -> None:
    ran = as_("bob", "request", "money", "--reason", "x", *arguments)
    assert (ran.code, ran.err.startswith(f"govmiddleware: {key} =")) == (2, True), ran.err


def test_who_says_not_who_they_are_is_told_how(as_: As) -> None:
    ran = as_(None, "list")
    assert (ran.code, ran.err[:28]) == (2, "govmiddleware: GOV_TOKEN = N"), ran.err
