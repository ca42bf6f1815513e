"""`limit`: those of the file and of the store listed, and those of the store changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

FILE = """
[[limits]]
name = "user-month"
scope = "user"
meter = "cost_usd"
window = "month"
hard = 1

[[limits]]
name = "minute"
scope = ["user", "model"]
value = ["ann", "m"]
meter = "requests"
rate = "60/minute"
soft = 30
"""
PERIOD = ("--meter", "cost_usd", "--window", "30d", "--anchor", "2026-01-01", "--hard", "2.5")


@pytest.fixture(autouse=True)
def file(configured) -> None:
    configured(FILE)


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def names(run) -> list[tuple[str, str]]:
    return [(limit["name"], limit["source"]) for limit in json.loads(run("limit", "list", "--json").out)]


def shown(run, name: str) -> Any:
    return json.loads(run("limit", "show", name, "--json").out)


def test_limits_are_listed_with_what_they_say_and_where_they_stand(run) -> None:
    run("limit", "set", "tags", "--scope", "tag:team", *PERIOD, "--workspace", "acme", "--mode", "dry_run")
    table = rows(run("limit", "list").out)
    assert [" ".join(row) for row in table] == [
        "NAME SCOPE VALUE DEFAULT WORKSPACE METER WINDOW SOFT HARD MODE SOURCE",
        "user-month user - False - cost_usd month 0.800000000 1.000000000 enforced file",
        "minute user+model ann|m False - requests 60s 30 60 enforced file",
        "tags tag:team - False acme cost_usd 30d@2026-01-01 2.000000000 2.500000000 dry_run store",
    ]
    assert names(run) == [("user-month", "file"), ("minute", "file"), ("tags", "store")]


def test_a_limit_is_created_and_then_replaced(run) -> None:
    created = run("limit", "set", "a", "--scope", "user", "--meter", "requests", "--rate", "5/minute")
    assert created.told == (0, "", "Limit a is created.\n")
    pair = ["--scope", "user", "--scope", "model", "--value", "ann", "--value", "m"]
    zone = ["--timezone", "Asia/Tokyo", "--soft", "1"]
    replaced = run("limit", "set", "a", *pair, *PERIOD, *zone, "--json")
    assert (replaced.code, replaced.err) == (0, "Limit a is replaced.\n")
    assert json.loads(replaced.out) | {"counters": []} == shown(run, "a")
    assert json.loads(replaced.out) == {
        "name": "a",
        "scope": "user+model",
        "value": "ann|m",
        "default": False,
        "workspace": None,
        "meter": "cost_usd",
        "window": "30d@2026-01-01@Asia/Tokyo",
        "soft": "1.000000000",
        "hard": "2.500000000",
        "mode": "enforced",
        "approvals_required": 1,
        "source": "store",
    }


def test_what_is_not_said_again_is_not_kept(run) -> None:
    user = ("limit", "set", "a", "--scope", "user", "--meter", "wall_clock", "--hard", "60")
    run(*user, "--default", "--window", "day")
    assert (shown(run, "a")["default"], shown(run, "a")["window"]) == (True, "day")
    run(*user)
    assert (shown(run, "a")["default"], shown(run, "a")["window"]) == (False, "lifetime")


def test_a_limit_is_deleted_once(run) -> None:
    run("limit", "set", "a", "--scope", "user", *PERIOD)
    assert run("limit", "delete", "a").told == (0, "", "Limit a is deleted.\n")
    assert run("limit", "delete", "a").told == (1, "", "There is no limit called a in the store.\n")
    assert ("a", "store") not in names(run)


def test_limits_of_the_file_are_read_only(run, store) -> None:
    said = "Limit minute stands in the configuration file: change it there.\n"
    assert run("limit", "set", "minute", "--scope", "user", *PERIOD).told == (1, "", said)
    assert run("limit", "delete", "minute").told == (1, "", said)
    assert store.keys("gov:limits") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b", "--scope", "user", *PERIOD], "NAME = 'a b': expected 1 to 64 letters"),
        (["a", "--scope", "colour", *PERIOD], "--scope = 'colour': expected one of workspace"),
        (["a", "--scope", "user", "--meter", "pages", "--hard", "1"], "--meter = 'pages': expected 'requests'"),
        (["a", "--scope", "user", "--meter", "requests", "--rate", "often"], "--rate = 'often': expected a whole"),
        (["a", "--scope", "user", *PERIOD, "--timezone", "Mars"], "--timezone = 'Mars': expected the name of"),
        (["a", "--scope", "user", "--meter", "requests", "--window", "day", "--hard", "much"], "--hard = 'much': expected a valid decimal"),
        (["a", "--scope", "user", *PERIOD, "--soft", "3"], "expected soft no larger than hard"),
        (["a", "--scope", "provider", *PERIOD, "--value", "x"], "--value = 'x': expected the name of an upstream"),
        (["a", "--scope", "user", "--meter", "requests"], "expected either rate, or window together with hard"),
        (["a", "--meter", "requests"], "--scope"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_by_its_option(run, store, arguments: list[str], said: str) -> None:
    ran = run("limit", "set", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert store.keys("gov:limits") == []


def test_all_mistakes_are_told(run) -> None:
    ran = run("limit", "set", "a", "--scope", "colour", *PERIOD, "--timezone", "Mars")
    assert all(option in ran.err for option in ("--scope = 'colour'", "--timezone = 'Mars'"))


def test_a_limit_that_cannot_be_read_is_told_and_can_be_replaced(run, store, caplog) -> None:
    store.hset("gov:limits", "a", b'{"name": "a", "scope": "user", "meter": "photons", "rate": "1/minute"}')
    assert ("a", "store") not in names(run)
    assert "limit a of the store cannot be read and does not bind: meter = 'photons'" in caplog.text
    assert run("limit", "set", "a", "--scope", "user", *PERIOD).err == "Limit a is replaced.\n"
    assert ("a", "store") in names(run)
