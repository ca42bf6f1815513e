"""Settings of limits: what they become, and what a mistake in them is told."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from govmiddleware.core.limits import Limit, Meter, Mode
from govmiddleware.core.scopes import Scope, value_in
from govmiddleware.core.windows import (
    CalendarUnit,
    CalendarWindow,
    Lifetime,
    Now,
    PeriodWindow,
    SlidingWindow,
)
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings import Settings, load
from govmiddleware.settings_limits import LimitDefaults, read_limit

pytestmark = pytest.mark.usefixtures("nothing_around")

SUBJECT = {
    Scope.WORKSPACE: "acme",
    Scope.USER: "a|nn",
    Scope.MODEL: "gpt-4o",
    Scope.DEPLOYMENT: Scope.DEPLOYMENT,
    "tag:team": "search",
}


def limit(deployment: dict[str, Any] | None = None, **fields: Any) -> Limit:
    given = {"name": "a", "scope": "user", "meter": "requests"} | fields
    settings = Settings(limits=[given], **(deployment or {}))  # type: ignore[arg-type]
    return settings.limits[0].limit(settings.limit_defaults)


# Windows and amounts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "seconds", "hard"),
    [
        ("60/minute", 60, 60),
        ("1/second", 1, 1),
        ("100 per 5 minutes", 300, 100),
        ("1/day", 86400, 1),
        ("10/30 days", 30 * 86400, 10),
    ],
)
def test_a_rate_is_a_sliding_window(rate: str, seconds: int, hard: int) -> None:
    found = limit(rate=rate)
    assert (found.window, found.hard) == (SlidingWindow(seconds), hard)


def test_windows_and_values_become_the_limit() -> None:
    month = limit(scope="agent", meter="cost_usd", window="month", hard="1.5", value="x")
    assert (month.scope, month.meter, month.value) == (Scope.AGENT, Meter.COST_USD, "x")
    assert (month.window, month.hard) == (CalendarWindow(CalendarUnit.MONTH), 1_500_000_000)
    assert limit(window="lifetime", hard=3).window == Lifetime()
    assert limit(meter="concurrency", hard=3).window == Now()
    assert limit(meter="cost_usd", window="day", hard=0.1).hard == 100_000_000, "0.1 means 0.1"
    assert limit(window="day", hard=2**52).hard == 2**52
    assert limit(meter="cost_usd", window="day", hard=Decimal(2**52) / 10**9).hard == 2**52


def test_windows_of_the_calendar_are_in_a_time_zone(written) -> None:
    berlin = limit(window="week", hard=1, timezone="Europe/Berlin")
    assert berlin.window == CalendarWindow(CalendarUnit.WEEK, "Europe/Berlin")
    assert limit(window="week", hard=1, timezone="UTC").window == limit(window="week", hard=1).window
    [period] = load(written(f"{LIMIT}window = '30d'\nanchor = 2026-01-01\nhard = 1")).limits
    assert period.limit(LimitDefaults()).window == PeriodWindow(30, date(2026, 1, 1))
    text = limit(window="7d", anchor="2026-01-01", timezone="Asia/Tokyo", hard=1)
    assert text.window == PeriodWindow(7, date(2026, 1, 1), "Asia/Tokyo")


def test_wall_clock_is_for_ever_unless_it_has_a_window() -> None:
    session = limit(scope="session", meter="wall_clock", hard=3600)
    assert (session.meter, session.window, session.hard) == (Meter.WALL_CLOCK, Lifetime(), 3600)
    assert limit(meter="wall_clock", window="day", hard=3600).window == CalendarWindow(CalendarUnit.DAY)
    period = limit(meter="wall_clock", window="7d", anchor="2026-01-01", hard=1).window
    assert period == PeriodWindow(7, date(2026, 1, 1))


# Soft values and modes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "soft"),
    [
        ({"rate": "60/minute"}, 48),
        ({"rate": "1/minute"}, 1),  # 0.8 of it is no whole request: the first that reaches it
        ({"rate": "7/minute"}, 6),
        ({"meter": "concurrency", "hard": 4}, 4),
        ({"window": "day", "hard": 0}, 0),
        ({"window": "day", "hard": 2**52}, 3_602_879_701_896_397),
        ({"meter": "cost_usd", "window": "day", "hard": 10}, 8_000_000_000),
        ({"meter": "cost_usd", "window": "day", "hard": "0.000000001"}, 1),
        ({"rate": "60/minute", "soft": 7}, 7),
        ({"meter": "cost_usd", "window": "day", "hard": 10, "soft": 9.5}, 9_500_000_000),
        ({"window": "day", "hard": 5, "soft": 5}, 5),
    ],
)
def test_soft_is_what_is_said_or_the_least_amount_that_is_the_fraction_of_hard(
    fields: dict[str, Any], soft: int
) -> None:
    assert limit(**fields).soft == soft


def test_the_fraction_can_be_set() -> None:
    assert [limit({"soft_fraction": part}, window="day", hard=10).soft for part in (0.1, 0.55, 1)] == [
        1,
        6,
        10,
    ]


@pytest.mark.parametrize(
    ("own", "deployment", "mode"),
    [
        ("enforced", "enforced", Mode.ENFORCED),
        ("dry_run", "enforced", Mode.DRY_RUN),
        ("enforced", "dry_run", Mode.DRY_RUN),
        ("suggest", "dry_run", Mode.SUGGEST),
        ("dry_run", "suggest", Mode.SUGGEST),
    ],
)
def test_the_milder_mode_wins(own: str, deployment: str, mode: Mode) -> None:
    assert limit({"mode": deployment}, rate="1/minute", mode=own).mode is mode
    assert limit(rate="1/minute").mode is Mode.ENFORCED


# Scopes and values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("user", "a|nn"),
        ("tag:team", "search"),
        (["user", "model"], ["a|nn", "gpt-4o"]),
        ("model+tag:team", ["gpt-4o", "search"]),
        (["user", "deployment"], "a|nn"),
        (["deployment", "tag:team"], "search"),
    ],
)
def test_a_pinned_value_is_that_of_the_call_it_binds(scope: Any, value: Any) -> None:
    found = limit(scope=scope, value=value, rate="1/minute")
    assert found.value == value_in(found.scope, SUBJECT)
    assert limit(scope=scope, rate="1/minute").value is None


def test_a_pair_is_a_list_of_two_or_joined() -> None:
    assert [limit(scope=scope, rate="1/minute").scope for scope in (["user", "model"], "user+model")] == [
        "user+model"
    ] * 2


def test_defaults_and_workspaces_come_over() -> None:
    found = limit(rate="1/minute", default=True, workspace="acme")
    assert (found.is_default, found.workspace) == (True, "acme")
    assert (limit(rate="1/minute").is_default, limit(rate="1/minute").workspace) == (False, None)


def test_a_limit_on_providers_is_for_each_or_for_one_that_there_is() -> None:
    upstreams = [{"name": "local"}, {"name": "far"}]
    pair: dict[str, Any] = {"scope": ["model", "provider"], "value": ["m", "far"]}
    for fields in ({"scope": "provider"}, {"scope": "provider", "value": "local"}, pair):
        limit({"upstreams": upstreams}, rate="1/minute", **fields)
    assert limit(scope="provider", value="default", rate="1/minute").value == "default"


# What is stored -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"rate": "60/minute"},
        {"window": "30d", "anchor": "2026-01-01", "timezone": "Asia/Tokyo", "hard": 5, "soft": 2},
        {"meter": "cost_usd", "window": "day", "hard": "0.100000000", "mode": "dry_run"},
        {"meter": "wall_clock", "hard": 60, "default": True, "workspace": "acme"},
        {"scope": "user+model", "value": ["ann", "gpt-4o"], "rate": "1/second"},
    ],
)
def test_a_limit_can_be_read_again_from_its_fields(fields: dict[str, Any]) -> None:
    given = {
        "name": "a",
        "scope": "user",
        "meter": "requests",
        "default": False,
        "mode": "enforced",
        "approvals_required": 1,
    } | fields
    read = read_limit(given, ["default"])
    assert read.fields() == given
    assert read_limit(read.fields(), ["default"]).limit(LimitDefaults()) == read.limit(LimitDefaults())


def test_a_mistake_outside_the_file_names_the_field_alone() -> None:
    given = {"name": "a", "scope": "user", "meter": "requests"}
    with pytest.raises(ConfigurationError, match=r"^rate = '0/second': expected a whole number above 0"):
        read_limit(given | {"rate": "0/second"}, [])
    with pytest.raises(ConfigurationError, match=r"^limit = \{.*\}: expected either rate, or window"):
        read_limit(given, [])
    with pytest.raises(ConfigurationError, match=r"^value = 'x': expected the name of an upstream: far"):
        read_limit(given | {"scope": "provider", "value": "x", "rate": "1/minute"}, ["far"])


def test_the_examples_of_the_documentation_are_right(written) -> None:
    page = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
    _, section = page.split("\n## Limits\n")
    [example] = re.findall(r"```toml\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    assert [limit.name for limit in load(written(example)).limits] == re.findall(r'name = "(.*)"', example)


# Mistakes -----------------------------------------------------------------------------------------

LIMIT = '[[limits]]\nname = "a"\nscope = "user"\nmeter = "requests"\n'
RATE = LIMIT + "rate = '1/minute'\n"
DAY = LIMIT + "window = 'day'\nhard = 9\n"
PERIOD = DAY.replace("'day'", "'30d'")
COST = LIMIT.replace("requests", "cost_usd")
SLOTS = LIMIT.replace("requests", "concurrency")
WALL = LIMIT.replace("requests", "wall_clock")
PINNED = RATE.replace('"user"', '"provider"')
PAIR = RATE.replace('"user"', '["user", "model"]')
EVERYWHERE = RATE.replace('"user"', '"deployment"')
A_RATE = "a whole number above 0 per second, minute, hour or day, such as 60/minute or 100/5 minutes"
A_SCOPE = (
    "one of workspace, api_token, user, session, agent, model, provider, deployment or tag:NAME, or a list"
)
A_WINDOW = "one of hour, day, week, month or lifetime, or 1 to 3660 days, such as 30d"

MISTAKES = [
    # what is written, the key that is named below limits[0], the value that is shown, what would be right
    (LIMIT.replace('"a"', '"a b"'), ".name", "'a b'", "1 to 64 letters"),
    *(
        (RATE.replace('"user"', scope), ".scope", shown, A_SCOPE)
        for scope, shown in (
            ('"colour"', "'colour'"),
            ('"tag:"', "'tag:'"),
            ('"tag:a b"', "'tag:a b'"),
            ('"user+user"', "'user+user'"),
            ('["user"]', "['user']"),
            ('["user", "model", "agent"]', "['user', 'model', 'agent']"),
            ("[]", "[]"),
            ("3", "3"),
        )
    ),
    (LIMIT.replace("requests", "pages"), ".meter", "'pages'", "'requests'"),
    *(
        (f"{LIMIT}rate = {rate!r}", ".rate", repr(rate), A_RATE)
        for rate in ("0/second", "100k/minute", "60", "-1/minute", "1.5/minute", "60/fortnight", "", "1/year")
    ),
    (LIMIT + "rate = '60/minute; 1000/hour'", ".rate", "'60/minute; 1000/hour'", A_RATE),
    (LIMIT + "rate = 60", ".rate", "60", "a valid string"),
    (DAY.replace("9", "1e300"), ".hard", "1e+300", "a number less than or equal to"),
    (LIMIT, "", "'name': 'a'", "either rate, or window together with hard"),
    (LIMIT + "window = 'day'", "", "'window': 'day'", "window and hard go together"),
    (LIMIT + "hard = 1", "", "'hard': 1", "either rate, or window together with hard"),
    (RATE + "hard = 1", "", "'hard': 1", "window and hard go together"),
    (RATE + "window = 'day'\nhard = 1", "", "'hard': 1", "either rate"),
    *(
        (f"{LIMIT}hard = 1\nwindow = {window!r}", ".window", repr(window), A_WINDOW)
        for window in ("year", "0d", "3661d", "-1d", "30", "1.5d", "d", "")
    ),
    (DAY.replace("9", "1.5"), "", "'hard': 1.5", "a whole number as hard"),
    (DAY.replace("9", "-1"), ".hard", "-1", "greater than or equal to 0"),
    (DAY.replace("9", "'x'"), ".hard", "'x'", "a valid decimal"),
    (DAY.replace("9", "inf"), ".hard", "inf", "a finite number"),
    (DAY.replace("9", "true"), ".hard", "True", "a number"),
    (DAY.replace("9", str(2**52 + 1)), ".hard", str(2**52 + 1), f"a number less than or equal to {2**52}"),
    (DAY.replace("9", "'1e400'"), ".hard", "'1e400'", f"a number less than or equal to {2**52}"),
    (f"{LIMIT}rate = '{2**52 + 1}/minute'", "", str(2**52 + 1), f"at most {2**52}"),
    (COST + "window = 'day'\nhard = 5000000", "", "5000000", "about 4.5 million USD"),
    (SLOTS + "hard = 1\nwindow = 'day'", "", "'window': 'day'", "concurrency takes hard alone"),
    (SLOTS + "rate = '1/minute'", "", "'1/minute'", "concurrency takes hard alone"),
    (SLOTS + "hard = 1\ntimezone = 'UTC'", "", "'UTC'", "timezone with a window that the calendar ends"),
    (WALL + "rate = '1/minute'", "", "'1/minute'", "wall_clock takes hard, in seconds"),
    (WALL + "window = 'day'", "", "'day'", "wall_clock takes hard, in seconds"),
    (WALL + "hard = 1.5", "", "1.5", "a whole number as hard"),
    (PERIOD, "", "'30d'", "anchor together with a window of days"),
    (DAY + "anchor = 2026-01-01", "", "'day'", "anchor together with a window of days"),
    (PERIOD + "anchor = '2026-02-30'", ".anchor", "'2026-02-30'", "a date, such as 2026-01-01"),
    (PERIOD + "anchor = 20260101", ".anchor", "20260101", "a date, such as 2026-01-01"),
    (PERIOD + "anchor = 2026-01-01T00:00:00Z", ".anchor", "datetime", "a date, such as 2026-01-01"),
    (DAY + "timezone = 'Mars'", ".timezone", "'Mars'", "the name of an IANA time zone"),
    (DAY + "timezone = '+02:00'", ".timezone", "'+02:00'", "such as Europe/Berlin"),
    (DAY + "timezone = 'localtime'", ".timezone", "'localtime'", "such as Europe/Berlin"),
    (RATE + "timezone = 'UTC'", "", "'UTC'", "timezone with a window that the calendar ends"),
    (DAY.replace("'day'", "'lifetime'") + "timezone = 'UTC'", "", "'UTC'", "timezone with a window"),
    (DAY + "soft = 10", "", "'soft': 10", "soft no larger than hard"),
    (RATE + "soft = 2", "", "'soft': 2", "or than the amount of the rate"),
    (DAY + "soft = 1.5", "", "'soft': 1.5", "a whole number as soft"),
    (DAY + "soft = -1", ".soft", "-1", "greater than or equal to 0"),
    (RATE + "mode = 'block'", ".mode", "'block'", "'enforced', 'dry_run' or 'suggest'"),
    (RATE + "value = ''", ".value", "''", "1 to 128 printable characters"),
    (RATE + "value = 3", ".value", "3", "a text; for a pair of scopes a list of two"),
    (RATE + "value = ['a']", ".value", "['a']", "a text; for a pair of scopes a list of two"),
    (RATE + "value = ['a', 'b']", "", "['a', 'b']", "one text as value"),
    (PAIR + "value = 'a'", "", "'value': 'a'", "a list of two as value, one for each scope"),
    (EVERYWHERE + "value = 'a'", "", "'value': 'a'", "neither value nor default with deployment"),
    (EVERYWHERE + "default = true", "", "True", "neither value nor default with deployment"),
    (EVERYWHERE + "workspace = 'acme'", "", "'acme'", "workspace with a scope within it"),
    (EVERYWHERE + "approvals_required = 2", "", "2", "approvals_required = 1 with deployment"),
    (RATE + "default = true\nvalue = 'a'", "", "'value': 'a'", "default = true, for values that no other"),
    (RATE + "default = 'yes'", ".default", "'yes'", "a valid boolean"),
    (RATE + "workspace = 'a b'", ".workspace", "'a b'", "a workspace name: 1 to 64 letters"),
    (RATE + "approvals_required = 3", ".approvals_required", "3", "less than or equal to 2"),
    (RATE + "colour = 1", ".colour", "1", "a setting that exists"),
    (PINNED + "value = 'b'\n[[upstreams]]\nname = 'a'", ".value", "'b'", "the name of an upstream: a"),
    (PINNED + "value = 'a'", ".value", "'a'", "the name of an upstream: default"),
    (
        PAIR.replace('"model"', '"provider"') + "value = ['u', 'a']",
        ".value",
        "('u', 'a')",
        "the name of an upstream: default",
    ),
]


@pytest.mark.parametrize(("text", "key", "value", "expected"), MISTAKES, ids=[each[0] for each in MISTAKES])
def test_a_mistake_is_told_by_key_value_and_what_would_be_right(
    written, text: str, key: str, value: str, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(written(text))
    key = f"limits[0]{key}"
    assert raised.value.key == key, raised.value
    found, wanted = str(raised.value).removeprefix(f"{key} = ").split(": expected ", 1)
    assert value in found
    assert expected in wanted
