"""What each command does to the store, prints, and exits with."""

from __future__ import annotations

import csv
import io
import json
import stat
import sys
import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import LIMITS, NOWHERE

from govmiddleware.core import ids

PROVIDERS = """
[[upstreams]]
name = "small"
models = ["*-mini"]

[[upstreams]]
name = "big"

[[limits]]
name = "provider-day"
scope = "provider"
meter = "requests"
window = "day"
hard = 10
"""


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


# The entry point itself ---------------------------------------------------------------------------


def test_the_entry_point_runs_and_its_exit_code_is_the_commands(command) -> None:
    created = command("token", "create", "ci", "--workspace", "acme")
    assert created.code == 0
    assert ids.is_well_formed_api_token(created.out.strip()), "the secret, and nothing else, on stdout"
    assert "shown this once" in created.err
    listed = command("token", "list", "--json")
    assert (listed.code, [token["name"] for token in json.loads(listed.out)]) == (0, ["ci"])


def test_the_installed_script_is_the_same(data_dir) -> None:
    import subprocess

    script = Path(sys.executable).with_name("govmiddleware")
    assert script.stat().st_mode & stat.S_IXUSR
    ran = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=20, check=True)
    assert ran.stdout.strip() == "0.1.0"
    refused = subprocess.run([script, "frobnicate"], capture_output=True, timeout=20, check=False)
    assert refused.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["limit", "set"], "set"),
        (["replay", "x.jsonl"], "FILE = 'x.jsonl': expected a file that can be read"),
        (["token"], None),
        (["token", "create"], "NAME"),
        (["token", "create", "a", "--role", "root"], "root"),
        (["usage", "--format", "xml"], "xml"),
        (["usage", "--by", "colour"], "--by = 'colour': expected one of model, provider"),
        (["usage", "--by", "tag:"], "--by = 'tag:': expected one of model, provider"),
        (["usage", "--since", "yesterday"], "--since = 'yesterday': expected 2026-01-31"),
        (["usage", "--format", "csv", "--by", "user"], "--format = 'csv': expected neither --by nor"),
        (["usage", "--tag", "team"], "--tag = 'team': expected --format csv"),
        (["usage", "--timezone", "UTC"], "--timezone = 'UTC': expected --timeline, or --format csv"),
        (["usage", "--timeline", "day", "--timezone", "X"], "--timezone = 'X': expected an IANA time zone"),
        (["usage", "--timeline", "minute", "--since", "9d"], "--timeline = 'minute': expected 2500 buckets"),
        (["usage", "--timeline", "week"], "week"),
        (["usage", "--until", "999999w"], "--until = '999999w': expected 2026-01-31"),
        (["token", "create", "a", "--workspace", "a b"], "--workspace = 'a b': expected a workspace name"),
        (["token", "create", "a\nb"], r"NAME = 'a\nb': expected 1 to 128 printable characters"),
        (["token", "create", "a", "--user", ""], "--user = '': expected 1 to 128 printable characters"),
        (["token", "create", "a", "--agent", "\x00"], "--agent = '\\x00': expected 1 to 128 printable"),
        (["token", "create", "a", "--expires-in", "soon"], "--expires-in = 'soon': expected a duration"),
        (["token", "create", "a", "--expires-in", "999999w"], "--expires-in = '999999w': expected"),
        (["token", "create", "a", "--expires-in", "0d"], "--expires-in = '0d': expected a duration"),
        (["token", "list", "--config", "no.toml"], "--config = 'no.toml': expected a file that exists"),
        (["token", "list", "--redis", "http://h"], "redis_url = 'http://h': expected embedded, or a URL"),
        (["serve"], "upstream = None: expected the URL to forward to"),
        (["serve", "--upstream", "localhost:4000"], "upstream = 'localhost:4000': expected an http"),
    ],
)
def test_a_wrong_use_is_told_in_a_line_and_exits_with_2(run, arguments, said) -> None:
    ran = run(*arguments)
    if said is None:
        assert (ran.code, ran.out.startswith("Usage: govmiddleware token")) == (0, True)
        return
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["token", "create", "a"],
        ["token", "list"],
        ["token", "revoke", "a"],
        ["usage"],
        ["limit", "list"],
        ["limit", "show", "user-month"],
        ["limit", "set", "a", "--scope", "user", "--meter", "requests", "--rate", "1/minute"],
        ["limit", "delete", "a"],
    ],
)
def test_a_store_that_does_not_answer_exits_with_3(run, configured, arguments) -> None:
    configured(LIMITS)
    ran = run(*arguments, *NOWHERE)
    assert ran.code == 3
    assert ran.err.startswith("govmiddleware: ")
    assert len(ran.err.splitlines()) == 1


# token --------------------------------------------------------------------------------------------


def test_a_token_is_created_listed_and_revoked(run, store) -> None:
    ran = run(
        *("token", "create", "ide", "--workspace", "acme", "--role", "admin", "--user", "ann"),
        *("--agent", "coder", "--expires-in", "24h", "--json"),
    )
    created = json.loads(ran.out)
    assert created["workspace"] == "acme"
    assert (created["role"], created["user"], created["agent"]) == ("admin", "ann", "coder")
    assert created["expires_at"] > created["created_at"]
    assert created["expires_at"].endswith("Z")
    [listed] = json.loads(run("token", "list", "--json").out)
    assert listed == {key: value for key, value in created.items() if key != "secret"}
    assert listed["state"] == "active"
    assert run("token", "revoke", created["id"]).code == 0
    assert json.loads(run("token", "list", "--json").out)[0]["state"] == "revoked"
    again = run("token", "revoke", created["id"])
    assert (again.code, created["id"] in again.err) == (1, True)
    kept = b"".join(store.get(key) or b"" for key in store.keys("gov:token:*"))
    assert created["secret"].encode() not in kept, "the store knows its hash alone"


def test_a_token_can_be_revoked_by_its_name_where_that_is_enough(run) -> None:
    for workspace in ("acme", "umbrella"):
        run("token", "create", "ci", "--workspace", workspace)
    several = run("token", "revoke", "ci")
    assert (several.code, "--workspace" in several.err) == (1, True)
    assert run("token", "revoke", "ci", "--workspace", "acme").code == 0
    states = {token["workspace"]: token["state"] for token in json.loads(run("token", "list", "--json").out)}
    assert states == {"acme": "revoked", "umbrella": "active"}
    assert run("token", "create", "ci", "--workspace", "acme").code == 0, "its name is free again"


def test_the_list_shows_configured_tokens_too_and_no_hash_of_any(run, configured) -> None:
    configured(LIMITS)
    run("token", "create", "stored")
    table = rows(run("token", "list").out)
    assert table[0][:4] == ["ID", "NAME", "WORKSPACE", "ROLE"]
    assert {row[1]: row[6] for row in table[1:]} == {"static": "configured", "stored": "active"}
    shown = run("token", "list", "--json").out
    assert ids.hash_api_token("open sesame") not in shown
    assert len({frozenset(token) for token in json.loads(shown)}) == 1, "all with the same fields"
    assert run("token", "create", "static", "--workspace", "acme").code == 1


# limit --------------------------------------------------------------------------------------------


def test_a_limit_is_shown_with_its_counters(run, traffic) -> None:
    traffic()
    run(
        *("limit", "set", "stored", "--scope", "user", "--meter", "cost_usd"),
        "--window",
        "month",
        "--hard",
        "3",
    )
    for name, hard in (("user-month", "1.000000000"), ("stored", "3.000000000")):
        shown = json.loads(run("limit", "show", name, "--json").out)
        assert (shown["name"], shown["hard"]) == (name, hard)
        assert [counter["value"] for counter in shown["counters"]] == ["ann", "bob"], "which both count on"
        assert "ann" in run("limit", "show", name).out
    missing = run("limit", "show", "nothing")
    assert (missing.code, "nothing" in missing.err) == (1, True)


# usage --------------------------------------------------------------------------------------------


def test_usage_is_a_table_or_json_of_the_same(run, traffic) -> None:
    traffic()
    report = json.loads(run("usage", "--by", "user", "--json").out)
    assert report == json.loads(run("usage", "--by", "user", "--format", "json").out)
    assert {group["id"]: group["requests"] for group in report["groups"]} == {"ann": 2, "bob": 1}
    table = rows(run("usage", "--by", "user").out)
    assert table[0][:3] == ["USER", "REQUESTS", "REFUSED"]
    total = next(row for row in table if row[0] == "TOTAL")
    assert total[1] == "3"
    assert report["totals"]["cost_usd"] in total


def test_usage_as_csv_is_by_month_workspace_tag_model_and_price(run, traffic) -> None:
    traffic()
    report = json.loads(run("usage", "--by", "model", "--json").out)
    for arguments in ((), ("--tag", "team"), ("--timezone", "Europe/Berlin", "--since", "7d")):
        parsed = list(csv.DictReader(io.StringIO(run("usage", "--format", "csv", *arguments).out)))
        assert {row["model"]: row["cost_usd"] for row in parsed} == {
            group["id"]: group["cost_usd"] for group in report["groups"]
        }
        assert {(row["workspace"], row["tag"]) for row in parsed} == {("acme", "")}


def test_usage_in_time_is_a_table_or_json(run, traffic) -> None:
    traffic()
    arguments = ("usage", "--timeline", "day", "--timezone", "Europe/Berlin", "--since", "3d")
    timeline = json.loads(run(*arguments, "--json").out)
    assert [bucket["totals"]["requests"] for bucket in timeline["buckets"]] == [0, 0, 0, 3]
    table = rows(run(*arguments).out)
    assert table[0][:2] == ["START", "REQUESTS"]
    assert [row[1] for row in table[1:]] == ["0", "0", "0", "3"]
    by_user = rows(run(*arguments, "--by", "user").out)
    assert [row[1:3] for row in by_user[1:]] == [["ann", "2"], ["bob", "1"]]


def test_usage_by_provider_tells_the_upstreams_apart(run, configured, traffic) -> None:
    configured(LIMITS + PROVIDERS)
    traffic()
    report = json.loads(run("usage", "--by", "provider", "--json").out)
    assert {group["id"]: group["requests"] for group in report["groups"]} == {"small": 1, "big": 2}
    left = {
        state["value"]: state["remaining"] for state in report["limits"] if state["name"] == "provider-day"
    }
    assert left == {"small": 9, "big": 8}
    table = rows(run("usage", "--by", "provider").out)
    assert [row[:2] for row in table[:4]] == [
        ["PROVIDER", "REQUESTS"],
        ["big", "2"],
        ["small", "1"],
        ["TOTAL", "3"],
    ]


def test_usage_of_nothing_is_an_empty_table(run) -> None:
    ran = run("usage")
    assert (ran.code, rows(ran.out)[1][0]) == (0, "TOTAL")
    assert json.loads(run("usage", "--until", "2020-01-01", "--json").out)["totals"]["requests"] == 0


# check --------------------------------------------------------------------------------------------


def test_check_says_what_a_good_configuration_holds(run, configured, tmp_path) -> None:
    file = configured('upstream = "http://127.0.0.1:4000"\n' + LIMITS)
    ran = run("check", "--config", file)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("ok: 2 limits, 1 API tokens, 0 prices, 1 upstreams\n")
    assert rows(ran.out)[3][:4] == ["default", "http://127.0.0.1:4000", "*", "none"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[limits]]\nname = 'a'", "limits[0].scope = None: expected a value"),
        ("upstream = 'localhost'", "upstream = 'localhost': expected an http or https URL"),
        ("upstream = 'http://user:s3cr3t@h'", "upstream = 'http://…@h': expected an http or https URL"),
        (
            "upstream = 'http://h'\n[[upstreams]]\nname = 'a'",
            "upstream = 'http://h': expected nothing beside",
        ),
        ("[[prices]]\nmodel = 'm'\nsame_as = 'x'", "prices[0].same_as = 'x': expected a model whose price"),
        ("x = [", "expected valid TOML"),
        ("soft_fraction = 2\nlease_seconds = 0", "lease_seconds = 0"),
    ],
)
def test_check_tells_every_mistake_and_exits_with_2(run, configured, text, said) -> None:
    ran = run("check", "--config", configured(text))
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""


def test_check_notes_variables_that_are_no_settings(run, monkeypatch) -> None:
    monkeypatch.setenv("GOV_UPSTRAEM", "http://127.0.0.1:1")
    monkeypatch.setenv("GOV_LEASE_SECONDS", "30")
    assert json.loads(run("check", "--json").out)["stray_variables"] == ["GOV_UPSTRAEM"]
    assert "note: GOV_UPSTRAEM" in run("check").out


def test_check_notes_that_no_limit_refuses(run, configured) -> None:
    configured(LIMITS)
    assert "note" not in run("check").out
    configured("mode = 'dry_run'\n" + LIMITS)
    assert "note: mode = 'dry_run': no limit refuses anything" in run("check").out
    assert json.loads(run("check", "--json").out)["mode"] == "dry_run"


def test_check_connects_to_nothing(run, configured) -> None:
    assert run("check", "--config", configured('redis_url = "redis://192.0.2.1:1"')).code == 0


# doctor -------------------------------------------------------------------------------------------


def test_doctor_says_what_works(run) -> None:
    ran = run("doctor", "--json")
    findings = {finding["check"]: finding for finding in json.loads(ran.out)}
    assert ran.code == 0
    assert {"python", "server", "embedded", "configuration", "store version", "store eviction"} <= set(
        findings
    )
    assert all(finding["ok"] for finding in findings.values())
    assert findings["journal draining"]["detail"] == "no worker runs that drains"
    assert "which is for one host" not in findings["journal database"]["detail"], "nor is the embedded store"
    assert all(line.startswith("ok ") for line in run("doctor").out.splitlines())


def test_doctor_says_whether_the_journal_answers_and_fits_the_store(
    run, configured, gov_server, journal
) -> None:
    configured(f'redis_url = "{gov_server}"')
    assert f"ok    journal database: sqlite:///{journal}, which is for one host" in run("doctor").out
    journal.write_text("this is no database, and long enough to be taken for one" * 20)
    ran = run("doctor")
    assert (ran.code, "FAIL  journal database: " in ran.out, "not a database" in ran.out) == (1, True, True)


def test_doctor_says_what_does_not(run, configured, store) -> None:
    ran = run("doctor", *NOWHERE)
    assert ran.code == 1
    assert any(line.startswith("FAIL  store:") for line in ran.out.splitlines())
    store.config_set("maxmemory-policy", "allkeys-lru")
    try:
        ran = run("doctor")
    finally:
        store.config_set("maxmemory-policy", "noeviction")
    assert (ran.code, "set noeviction" in ran.out) == (1, True)
    configured("lease_seconds = 0")
    ran = run("doctor")
    assert (ran.code, "FAIL  configuration: lease_seconds = 0" in ran.out) == (1, True)


# Configuration ------------------------------------------------------------------------------------


def test_flags_win_over_the_environment_and_that_over_the_file(run, configured, monkeypatch) -> None:
    configured('redis_url = "unix:///file.sock"')
    assert "/file.sock" in run("token", "list").err
    monkeypatch.setenv("GOV_REDIS_URL", "unix:///environment.sock")
    assert "/environment.sock" in run("token", "list").err
    assert "/flag.sock" in run("token", "list", "--redis", "unix:///flag.sock").err
    assert run("token", "list", "--redis", "embedded").code == 0


def test_this_projects_own_configuration_files_are_right(run) -> None:
    root = Path(__file__).parents[2]
    files = [
        file for file in root.glob("examples/**/*.toml") if "tool" not in tomllib.loads(file.read_text())
    ]
    for file in files:
        ran = run("check", "--config", str(file))
        assert ran.code == 0, (file, ran.err)
