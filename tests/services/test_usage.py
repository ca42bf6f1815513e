"""Usage over any time: SQL, the stream after it and what is open are one history, sliced exactly and exported."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import redis as sync_redis
from tests.services.draining import drain
from tests.services.test_audit import Books

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.core.slices import Unit
from govmiddleware.core.windows import CalendarUnit, CalendarWindow
from govmiddleware.services.accounting import COLUMNS, accounting_csv
from govmiddleware.testing import ScriptedProvider
from govmiddleware.testing.clock import Clock

SECRET = "open sesame"
TOKENS = [{"name": "ci", "workspace": "acme", "sha256": ids.hash_api_token(SECRET)}]


METERS = ("cost_usd", "requests", "total_tokens")


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.fixture
async def books(
    make_governance: Callable[..., Governance], gov_store: str, gov_clock: Clock
) -> AsyncIterator[Books]:
    governance = make_governance(clock=gov_clock)
    with sync_redis.Redis.from_url(gov_store, decode_responses=True) as raw:
        async with governance.store():
            yield Books(governance, raw)


def set_to(clock: Clock, text: str, zone: str = "UTC") -> None:
    clock.now_ms = round(at(text, zone).timestamp() * 1000)


# One history -------------------------------------------------------------------------------------


async def test_a_report_is_the_same_wherever_the_records_lie(books: Books) -> None:
    async def reports() -> list[Any]:
        usage = books.governance.usage
        return [await usage.report(by=by) for by in (None, "user", "model", "tag:team", "workspace")]

    for output_tokens, user in ((10, "ann"), (20, "bob"), (900, "ann")):
        await books.spend(output_tokens, user=user)
    async with books.governance.reservations.hold(books.call(user="eve"), books.governance.limits):
        in_the_stream = await reports()
        await drain(books.governance)
        assert await reports() == in_the_stream
        books.raw.delete("gov:{acme}:journal")
        assert await reports() == in_the_stream, "of what SQL has, the store is not asked"
    await books.spend(30, user="ann")
    [whole, *_] = await reports()
    assert (whole["totals"]["requests"], whole["totals"]["output_tokens"]) == (5, 960 + 500), "eve as bound"
    assert whole["totals"]["reserved_usd"] == "0.000000000"


async def test_a_record_that_the_store_was_sent_again_is_counted_once(books: Books) -> None:
    await books.spend(10)
    await drain(books.governance)
    [(_, fields)] = books.raw.xrange("gov:{acme}:journal")  # type: ignore[misc]
    books.raw.xadd("gov:{acme}:journal", fields)
    report: Any = await books.governance.usage.report()
    assert report["totals"]["requests"] == 1


async def test_a_call_belongs_to_the_time_of_its_admission(books: Books, gov_clock: Clock) -> None:
    set_to(gov_clock, "2026-01-31T23:59:59")
    call = books.call()
    async with books.governance.reservations.hold(call, books.governance.limits):
        gov_clock.advance(60)
        reserved = await books.governance.usage.report(until=at("2026-02-01"))
    settled = [await books.governance.usage.report(until=at("2026-02-01"))]
    await drain(books.governance)
    settled.append(await books.governance.usage.report(until=at("2026-02-01")))
    settled.append(await books.governance.usage.report(since=at("2026-02-01")))
    figures: list[Any] = [report["totals"] for report in (reserved, *settled)]
    assert [(each["requests"], each["reserved_usd"] != "0.000000000") for each in figures] == [
        (0, True),
        (1, False),
        (1, False),
        (0, False),
    ]


# The timeline ------------------------------------------------------------------------------------


async def test_days_of_a_time_zone_have_23_24_and_25_hours(books: Books, gov_clock: Clock) -> None:
    for day, output_tokens in (
        ("2026-03-28T23:59:59.999", 1),
        ("2026-03-29T00:00", 10),
        ("2026-03-29T23:59:59.999", 20),
        ("2026-03-31T00:00", 100),
    ):
        set_to(gov_clock, day, "Europe/Berlin")
        await books.spend(output_tokens, user=f"user {output_tokens}")
        if output_tokens == 10:
            await drain(books.governance)
    span: dict[str, Any] = {
        "since": at("2026-03-28", "Europe/Berlin"),
        "until": at("2026-04-01", "Europe/Berlin"),
    }
    timeline: Any = await books.governance.usage.timeline(
        bucket=Unit.DAY, timezone="Europe/Berlin", by="user", **span
    )
    assert {name: timeline[name] for name in ("since", "until", "bucket", "timezone", "by")} == {
        "since": "2026-03-27T23:00:00Z",
        "until": "2026-03-31T22:00:00Z",
        "bucket": "day",
        "timezone": "Europe/Berlin",
        "by": "user",
    }
    shown = [
        (bucket["start"], bucket["totals"]["output_tokens"], [group["id"] for group in bucket["groups"]])
        for bucket in timeline["buckets"]
    ]
    assert shown == [
        ("2026-03-27T23:00:00Z", 1, ["user 1"]),
        ("2026-03-28T23:00:00Z", 30, ["user 20", "user 10"]),
        ("2026-03-29T22:00:00Z", 0, []),
        ("2026-03-30T22:00:00Z", 100, ["user 100"]),
    ]
    assert [bucket["end"] for bucket in timeline["buckets"]][-1] == timeline["until"]
    report: Any = await books.governance.usage.report(**span)
    for name in ("requests", "output_tokens", "total_tokens"):
        assert sum(bucket["totals"][name] for bucket in timeline["buckets"]) == report["totals"][name]


async def test_hours_and_minutes_of_a_zone_at_three_quarters_of_an_hour(
    books: Books, gov_clock: Clock
) -> None:
    for minute in ("10:14", "10:15", "10:59", "11:15"):  # 16:00 there is 10:15 in UTC
        set_to(gov_clock, f"2026-01-01T{minute}")
        await books.spend(1)
    await drain(books.governance)
    usage, span = books.governance.usage, {"since": at("2026-01-01T10:00"), "until": at("2026-01-01T12:00")}
    hours: Any = await usage.timeline(bucket=Unit.HOUR, timezone="Asia/Kathmandu", **span)
    assert [bucket["totals"]["requests"] for bucket in hours["buckets"]] == [1, 2, 1]
    minutes: Any = await usage.timeline(bucket=Unit.MINUTE, timezone="Asia/Kathmandu", **span)
    assert len(minutes["buckets"]) == 120
    assert [bucket["start"][11:16] for bucket in minutes["buckets"] if bucket["totals"]["requests"]] == [
        "10:14",
        "10:15",
        "10:59",
        "11:15",
    ]


async def test_a_timeline_that_cannot_be_is_said(books: Books) -> None:
    usage = books.governance.usage
    for wrong, said in (
        ({"timezone": "Mars/Olympus"}, "IANA"),
        ({"by": "colour"}, "expected one of"),
        ({"bucket": Unit.MINUTE, "since": at("2020-01-01")}, "2500 buckets at most"),
    ):
        with pytest.raises(ValueError, match=said):
            await usage.timeline(**{"bucket": Unit.DAY, **wrong})  # type: ignore[arg-type]


# Accounting --------------------------------------------------------------------------------------


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
async def test_the_export_by_month_adds_up_to_the_counters(
    make_governance: Callable[..., Governance], gov_store: str, gov_clock: Clock, seed: int, zone: str
) -> None:
    """Random traffic through the whole stack, at random times of three months, drained at random; some calls last
    over the turn of a month."""
    chance = random.Random(seed)
    month = {"scope": "workspace", "window": "month", "timezone": zone, "hard": 1_000_000}
    limits = [{"name": meter, "meter": meter, **month} for meter in METERS]
    governance = make_governance(limits=limits, api_tokens=TOKENS, clock=gov_clock)
    provider: Any = ScriptedProvider()

    async def slow_provider(scope: Any, receive: Any, send: Any) -> None:
        gov_clock.advance(chance.choice([0, 86_400, 3 * 86_400]))
        await provider(scope, receive, send)

    counted: dict[str, dict[str, int]] = {}
    set_to(gov_clock, "2026-01-30T12:00")
    with sync_redis.Redis.from_url(gov_store, decode_responses=True) as raw:
        async with governance.store():
            transport = httpx.ASGITransport(app=governance.stack(slow_provider))
            async with httpx.AsyncClient(transport=transport, base_url="http://gov") as http:
                while gov_clock.now_ms < at("2026-04-02").timestamp() * 1000:
                    for _ in range(chance.randrange(3)):
                        await one_call(http, chance)
                    if chance.random() < 0.3:
                        await drain(governance)
                    counted.update(counters_of_two_months(raw, zone, gov_clock.now_ms))
                    gov_clock.advance(chance.choice([10, 86_400]))
            exported = await accounting_csv(
                governance.usage, timezone=zone, tag="team", since=at("2026-01-01"), until=at("2026-05-01")
            )
        found: dict[str, dict[str, int]] = {}
        for row in rows(exported):
            sums = found.setdefault(row["month"], dict.fromkeys(METERS, 0))
            sums["cost_usd"] += int(Decimal(row["cost_usd"]).scaleb(9))
            sums["requests"] += int(row["requests"])
            sums["total_tokens"] += int(row["total_tokens"])
    assert found == counted
    assert len(found) >= 2


def counters_of_two_months(raw: sync_redis.Redis, zone: str, now_ms: int) -> dict[str, dict[str, int]]:
    """This one and the last, by meter."""
    window = CalendarWindow(CalendarUnit.MONTH, zone)
    this = window.bounds(now_ms)[0]
    last = window.bounds(this - 1)[0]
    found = {}
    for start in (last, this):
        keys = {meter: f"gov:{{acme}}:c:workspace:{meter}:{window.name}:acme" for meter in METERS}
        used = {meter: int(str(raw.hget(key, f"u{start}") or 0)) for meter, key in keys.items()}
        if any(used.values()):
            found[datetime.fromtimestamp(start / 1000, ZoneInfo(zone)).strftime("%Y-%m")] = used
    return found


async def one_call(http: httpx.AsyncClient, chance: random.Random) -> None:
    body = {
        "model": chance.choice(["gpt-4o", "gpt-4o-mini"]),
        "messages": [{"role": "user", "content": "word " * chance.randrange(1, 50)}],
        "max_tokens": chance.randrange(1, 50),
        "stream": chance.random() < 0.5,
    }
    tags = {"x-gov-tags": f"team={chance.choice('ab')}"} if chance.random() < 0.7 else {}
    answer = await http.post(
        "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {SECRET}", **tags}
    )
    assert answer.status_code == 200


async def test_the_export_has_a_line_for_each_month_workspace_tag_model_and_price(
    books: Books, gov_clock: Clock
) -> None:
    for moment, output_tokens, model, workspace in (
        ("2026-01-31T23:30", 1, "m", "acme"),
        ("2026-02-01T00:30", 2, "m", "acme"),
        ("2026-02-01T00:30", 4, "m", "acme"),
        ("2026-02-01T00:30", 8, "n", "acme"),
        ("2026-02-01T00:30", 16, "m", "zeta"),
    ):
        set_to(gov_clock, moment)
        await books.spend(output_tokens, model=model, workspace=workspace)
    span: dict[str, Any] = {"since": at("2026-01-01"), "until": at("2026-03-01")}
    text = await accounting_csv(books.governance.usage, **span)
    assert text.splitlines()[0] == ",".join(COLUMNS)
    assert text.count("\r\n") == text.count("\n") == 5, "RFC 4180"
    found = [
        (row["month"], row["workspace"], row["tag"], row["model"], row["output_tokens"]) for row in rows(text)
    ]
    assert found == [
        ("2026-01", "acme", "", "m", "1"),
        ("2026-02", "acme", "", "m", "6"),
        ("2026-02", "acme", "", "n", "8"),
        ("2026-02", "zeta", "", "m", "16"),
    ]
    assert {row["price_version"] for row in rows(text)} == {books.governance.prices.version}
    assert rows(text)[1]["cost_usd"] == "0.000212000"
    by_team = await accounting_csv(books.governance.usage, tag="team", timezone="Europe/Berlin", **span)
    assert [(row["month"], row["tag"], row["output_tokens"]) for row in rows(by_team)] == [
        ("2026-02", "team of ann", "7"),
        ("2026-02", "team of ann", "8"),
        ("2026-02", "team of ann", "16"),
    ]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", 'a,"b"\r\n=c', "plain"])
async def test_names_from_clients_are_no_formulas(books: Books, name: str) -> None:
    await books.spend(1, model=name)
    [row] = rows(await accounting_csv(books.governance.usage, since=at("2020-01-01")))
    is_harmless = name.startswith(("a", "p"))
    assert row["model"] == (name if is_harmless else "'" + name)


async def test_what_was_only_refused_or_reserved_is_no_line(books: Books) -> None:
    async with books.governance.reservations.hold(books.call(), books.governance.limits):
        text = await accounting_csv(books.governance.usage, since=datetime(2020, 1, 1, tzinfo=UTC))
    assert rows(text) == []


async def test_the_store_is_asked_for_a_bounded_number_of_counters_at_once(
    make_governance: Callable[..., Governance], gov_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("govmiddleware.services.limit_states._COUNTERS_AT_ONCE", 2)
    month = {"name": "month", "scope": "user", "meter": "requests", "window": "month", "hard": 9}
    async with make_governance(limits=[month]).store() as governance:
        books = Books(governance, None)
        for user in "abcde":
            await books.spend(1, user=user)
        asked: list[int] = []
        snapshot = governance.journal.snapshot

        async def counted(workspace: str, counters: Sequence[str]) -> Any:
            asked.append(len(counters))
            return await snapshot(workspace, counters)

        monkeypatch.setattr(governance.journal, "snapshot", counted)
        states = await governance.usage.limit_states()
    assert [(state["value"], state["used"]) for state in states] == [(user, 1) for user in "abcde"]
    assert max(asked) == 2
