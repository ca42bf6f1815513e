"""`token import` and `token rotate`: people keep their keys, and get new ones without a gap."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis
from tests.cli.conftest import LIMITS, NOWHERE, Ran

from govmiddleware.core.ids import hash_api_token

Run = Callable[..., Ran]

SECRET = "sk-of-ann"
HASH = hash_api_token(SECRET)
OTHER = hash_api_token("sk-of-bob")

LITELLM = f"""token,key_name,key_alias,spend,expires,models,user_id,team_id,agent_id,metadata,blocked,max_budget,organization_id
{HASH},sk-...-ann,ann's laptop,1.5,2099-01-01 00:00:00.5,"{{gpt-4o}}",ann,search,,"{{}}",f,10,acme
{OTHER},sk-...-bob,,0,,{{}},default_user_id,,,{{}},t,,
sk-in-the-clear,,,0,,{{}},default_user_id,,,{{}},,,
{hash_api_token("3")},,old,0,2020-01-01 00:00:00,{{}},carl,,,{{}},f,,
{hash_api_token("4")},,,0,,{{}},ann,litellm-dashboard,,{{}},f,,
"""
"""As PostgreSQL's `\\copy (SELECT …) TO … CSV HEADER` writes the table."""


def stored(run: Run) -> dict[str, dict[str, Any]]:
    return {token["name"]: token for token in json.loads(run("token", "list", "--json").out)}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "keys"
        path.write_text(text)
        return str(path)

    return write


# import -------------------------------------------------------------------------------------------


def test_keys_are_imported_with_their_pins_and_a_second_time_changes_nothing(run: Run, file) -> None:
    keys = file(
        json.dumps(
            {
                "name": "ann's laptop",
                "sha256": HASH.upper(),
                "workspace": "acme",
                "role": "admin",
                "user": "ann",
                "agent": "ide",
                "tags": {"team": "search"},
                "expires_at": "2099-01-01T00:00:00+01:00",
            }
        )
        + "\n\n"
        + json.dumps({"name": "ci", "secret": "any string: schlüssel"})
    )
    first = run("token", "import", keys, "--json")
    assert [each["result"] for each in json.loads(first.out)] == ["imported", "imported"]
    assert first.err == "2 API tokens are imported, 0 left out.\n"
    ann = stored(run)["ann's laptop"]
    assert (ann["workspace"], ann["role"], ann["user"], ann["agent"]) == ("acme", "admin", "ann", "ide")
    assert (ann["tags"], ann["expires_at"], ann["state"]) == (
        {"team": "search"},
        "2098-12-31T23:00:00Z",
        "active",
    )
    before = stored(run)
    again = run("token", "import", keys)
    assert again.told[0] == 0
    assert again.out.count("known already") == 2
    assert stored(run) == before


def test_litellms_table_of_keys_is_taken_as_it_is_exported(run: Run, file) -> None:
    ran = run("token", "import", file(LITELLM), "--workspace", "acme", "--json")
    assert ran.code == 0, ran.err
    results = {each["where"].rpartition(" ")[2]: each["result"] for each in json.loads(ran.out)}
    assert results == {
        "2": "imported",
        "3": "skipped: blocked in LiteLLM",
        "4": "imported",
        "5": "skipped: expired",
        "6": "skipped: a session of LiteLLM's pages",
    }
    tokens = stored(run)
    assert tokens.keys() == {"ann's laptop", f"litellm-{hash_api_token('sk-in-the-clear')[:8]}"}
    ann = tokens["ann's laptop"]
    assert (ann["user"], ann["tags"]) == ("ann", {"team": "search", "organization": "acme"})
    assert ann["expires_at"] == "2099-01-01T00:00:00Z"
    assert tokens[f"litellm-{hash_api_token('sk-in-the-clear')[:8]}"]["user"] is None


def test_secrets_in_the_clear_come_on_standard_input_and_are_shown_and_kept_nowhere(
    run: Run, store: Redis, monkeypatch: pytest.MonkeyPatch, data_dir: Path, tmp_path: Path
) -> None:
    text = f"name,secret\nann,{SECRET}\n"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode("utf-8-sig"))))
    ran = run("token", "import", "-")
    assert ran.code == 0
    assert SECRET not in ran.out + ran.err
    kept = b"".join(store.dump(key) or b"" for key in store.keys("*"))
    assert SECRET.encode() not in kept + (tmp_path / "journal.sqlite3").read_bytes()
    assert store.exists(f"gov:token:{{{HASH}}}")


def test_a_dry_run_says_the_same_and_does_nothing(run: Run, file) -> None:
    ran = run("token", "import", file(LITELLM), "--dry-run")
    assert ran.out.count("to be imported") == 2
    assert ran.err == "2 API tokens would be imported, 3 left out.\n"
    assert stored(run) == {}


def test_what_was_revoked_here_is_not_brought_back(run: Run, file) -> None:
    keys = file(f"name,sha256\nann,{HASH}\n")
    run("token", "import", keys)
    assert run("token", "revoke", "ann").code == 0
    assert "revoked here" in run("token", "import", keys).out
    assert stored(run)["ann"]["state"] == "revoked"


def test_a_name_that_another_key_has_stops_all_of_it(run: Run, file, configured) -> None:
    configured(LIMITS)  # its file has a token called static in acme
    keys = file(f"name,sha256,workspace\nnew,{HASH},acme\nstatic,{OTHER},acme\n")
    ran = run("token", "import", keys)
    assert ran.code == 1
    assert "name is taken" in ran.out
    assert ran.err.startswith("Nothing is imported")
    assert stored(run).keys() == {"static"}
    # A configured key is known by its hash, under whatever name.
    known = run("token", "import", file(f"name,sha256\nx,{hash_api_token('open sesame')}\n"))
    assert (known.code, "known already" in known.out) == (0, True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"name,sha256\n,{HASH}\n", "line 2: name = None: expected a value"),
        ("name,sha256\nann,sk-secret\n", "line 2: sha256 = '…': expected 64 hexadecimal digits"),
        ("name,user\nann,ann\n", "line 2: sha256 = None: expected the hash of the secret, or the column"),
        (f"name,sha256,rolle\nann,{HASH},x\n", "line 2: column = 'rolle': expected one of name, sha256"),
        ("ann,sk-secret\nbob,sk-other\n", "line 2: column = 'ann': expected one of name, sha256"),
        ("sk-secret,ann\nsk-other,bob\n", "line 2: column = '…': expected one of name, sha256"),
        (f"name,sha256,role\nann,{HASH},root\n", "line 2: role = 'root': expected one of owner, admin"),
        (f"name,sha256,workspace\nann,{HASH},a b\n", "line 2: workspace = 'a b': expected a workspace"),
        (f"name,sha256,expires_at\nann,{HASH},soon\n", "line 2: expires_at = 'soon': expected a time"),
        (f"name,sha256,tags\nann,{HASH},a\n", "line 2: tags = {'a': ''}: expected team=search"),
        (f"name,sha256\nann,{HASH}\nbob,{HASH}\n", "line 3: secret = '…': expected another one than"),
        (f"name,sha256\nann,{HASH}\nann,{OTHER}\n", "line 3: name = 'ann': expected another one than"),
        (f"name,sha256\nann,{HASH},x\n", "line 2 = None: expected 2 columns, as the header has"),
        (f'{{"name": "ann", "sha256": "{HASH}"}}\n{{"name"\n', "line 2 = None: expected a JSON object"),
        ("[1]", "item 1 = None: expected a JSON object"),
        (f'{{"name": "ann", "sha256": "{HASH}", "user": ["ann"]}}', "user = '…': expected a text"),
        (f'{{"name": "ann", "sha256": "{HASH}", "tags": ["a"]}}', "tags = '…': expected a text"),
    ],
)
def test_a_mistake_names_its_line_and_nothing_is_imported(run: Run, file, text: str, told: str) -> None:

    ran = run("token", "import", file(text))
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert "sk-secret" not in ran.err
    assert HASH not in ran.err
    assert stored(run) == {}


def test_all_mistakes_are_told_at_once(run: Run, file) -> None:
    ran = run("token", "import", file("name,sha256\nann,1\nbob,2\ncarl,3\n"))
    assert [line.split(",")[1].split(":")[0] for line in ran.err.splitlines()] == [
        " line 2",
        " line 3",
        " line 4",
    ]


def test_a_store_that_does_not_answer_exits_with_3(run: Run, file) -> None:
    assert run("token", "import", file(LITELLM), *NOWHERE).code == 3


# rotate -------------------------------------------------------------------------------------------


def test_a_rotated_token_has_a_successor_of_its_name_and_ends_after_the_overlap(run: Run) -> None:
    run("token", "create", "ci", "--workspace", "acme", "--user", "ann", "--expires-in", "30d")
    ran = run("token", "rotate", "ci", "--overlap", "24h", "--json")
    new = json.loads(ran.out)
    assert new["secret"].startswith("gov_")
    tokens = json.loads(run("token", "list", "--json").out)
    [old] = [token for token in tokens if token["id"] != new["id"]]
    assert {token["name"] for token in tokens} == {"ci"}
    assert (new["user"], new["workspace"], old["state"], new["state"]) == ("ann", "acme", "active", "active")
    day = 24 * 3600
    assert seconds(old["expires_at"]) - seconds(new["created_at"]) == day
    assert seconds(new["expires_at"]) - seconds(new["created_at"]) == 30 * day, "as long as the old one had"
    # Which of the two is meant has to be said now.
    assert run("token", "rotate", "ci").err.startswith("2 API tokens are called ci")
    assert run("token", "rotate", new["id"]).code == 0


def test_without_an_overlap_the_old_secret_is_revoked_at_once(run: Run) -> None:
    run("token", "create", "ci")
    ran = run("token", "rotate", "ci", "--overlap", "0m")
    assert "its old secret is revoked" in ran.err
    assert sorted(token["state"] for token in json.loads(run("token", "list", "--json").out)) == [
        "active",
        "revoked",
    ]


def test_an_expiry_is_never_put_off_by_a_rotation(run: Run) -> None:
    run("token", "create", "ci", "--expires-in", "1h")
    before = stored(run)["ci"]
    ran = run("token", "rotate", "ci", "--overlap", "7d")
    assert f"its old secret ends at {before['expires_at']}." in ran.err
    [old] = [t for t in json.loads(run("token", "list", "--json").out) if t["id"] == before["id"]]
    assert old["expires_at"] == before["expires_at"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "There is no active API token nobody in the store."),
        (["ci", "--overlap", "soon"], "--overlap = 'soon': expected a duration"),
        (["ci", "--expires-in", "0d"], "--expires-in = '0d': expected a duration"),
    ],
)
def test_what_cannot_be_rotated_is_told(run: Run, arguments: list[str], told: str) -> None:
    ran = run("token", "rotate", *arguments)
    assert ran.code in (1, 2)
    assert told in ran.err


def seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
