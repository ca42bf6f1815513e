"""`audit`: what it finds, what it exits with, and what `--rebuild` brings back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from tests.cli.conftest import LIMITS, NOWHERE


def test_audit_is_0_where_the_books_balance_and_1_where_a_counter_was_changed(run, traffic, store) -> None:
    traffic()
    clean = run("audit")
    assert (clean.code, clean.out.startswith("ok: ")) == (0, True)
    [counter] = [key for key in store.keys("gov:{acme}:c:user:cost_usd:*") if key.endswith(b":ann")]
    [bucket] = [field for field in store.hkeys(counter) if field.startswith(b"u") and len(field) > 1]
    store.hincrby(counter, bucket, -5)
    changed = run("audit", "--json")
    assert changed.code == 1
    found = json.loads(changed.out)
    assert found["ok"] is False
    [difference] = found["differences"]
    assert (difference["workspace"], difference["value"]) == ("acme", "ann")
    assert difference["journal"] - difference["counter"] == 5
    assert "NOT OK" in run("audit").out


def test_audit_names_the_entry_of_the_audit_log_that_was_tampered_with(run, configured, journal) -> None:
    configured(LIMITS)
    run("token", "create", "ide", "--workspace", "acme")
    run("limit", "set", "a", "--scope", "user", "--meter", "requests", "--rate", "1/minute")
    run("limit", "delete", "a")
    clean = json.loads(run("audit", "--json").out)
    assert clean["chain"] == {"ok": True, "first_bad": None, "entries": 3, "problem": None}
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        [head] = connection.execute(
            "SELECT sequence || ':' || mac FROM gov_audit_entry ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        connection.execute("UPDATE gov_audit_entry SET actor = 'admin' WHERE sequence = 2")
    changed = run("audit", "--json")
    assert (changed.code, json.loads(changed.out)["chain"]["first_bad"]) == (1, 2)
    assert "audit log: entry 2: " in run("audit").out
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        connection.execute("DELETE FROM gov_audit_entry WHERE sequence >= 2")
    assert run("audit", "--head", head).code == 1
    malformed = run("audit", "--head", "3")
    assert (malformed.code, "--head" in malformed.err) == (2, True)


def test_a_damaged_key_of_the_audit_log_ends_a_command_and_is_named(
    run, configured, monkeypatch, tmp_path
) -> None:
    configured(LIMITS)
    monkeypatch.setenv("GOV_DATA_DIR", str(tmp_path))
    (tmp_path / "audit.key").write_text("cut")
    ran = run("token", "list", *NOWHERE)
    assert (ran.code, "audit_key" in ran.err, str(tmp_path / "audit.key") in ran.err) == (2, True, True)


def test_a_change_that_the_audit_log_cannot_take_exits_with_3(run, configured, journal) -> None:
    configured(LIMITS)
    journal.mkdir()
    for command in (
        ("token", "create", "ide"),
        ("limit", "set", "a", "--scope", "user", "--meter", "requests", "--rate", "1/minute"),
    ):
        ran = run(*command)
        assert (ran.code, "journal_url" in ran.err) == (3, True)
    assert [token["name"] for token in json.loads(run("token", "list", "--json").out)] == ["static"]
    assert "a" not in {limit["name"] for limit in json.loads(run("limit", "list", "--json").out)}


def test_audit_that_could_not_check_exits_with_2(run) -> None:
    ran = run("audit", *NOWHERE)
    assert (ran.code, ran.out) == (2, "")
    assert "could not check" in ran.err


def test_a_store_that_lost_everything_is_rebuilt_from_the_journal(run, traffic, store) -> None:
    assert (
        run("limit", "set", "often", "--scope", "user", "--meter", "requests", "--rate", "60/minute").code
        == 0
    )
    assert run("token", "create", "robot", "--workspace", "acme").code == 0
    traffic()
    assert run("audit").code == 0  # what SQL does not have by now, the last worker drained as it ended
    assert run("audit", "--rebuild").code == 0
    counters = {key: store.hgetall(key) for key in store.scan_iter("gov:{acme}:c:*")}
    store.flushall()
    lost = run("audit", "--json")
    assert (lost.code, json.loads(lost.out)["lost"]) == (1, ["*", "acme"])
    rebuilt = run("audit", "--rebuild")
    assert rebuilt.code == 0, rebuilt.told
    assert "counters restored" in rebuilt.err
    assert "1 limits restored: often\n1 API tokens restored: acme/robot\n" in rebuilt.err
    for key, fields in counters.items():
        used = {field: amount for field, amount in fields.items() if field[0] == "u" and amount != "0"}
        restored = store.hgetall(key)
        assert {field: amount for field, amount in restored.items() if field in used} == used, key
    traffic()
    assert run("audit").code == 0
