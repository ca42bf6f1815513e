"""What lies in the store: names, lifetimes, slots, and what each script may touch."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from govmiddleware.core.limits import Amount, Counter, Hold, Limit, Meter, Mode
from govmiddleware.core.ports import ApiTokenRevoked, Granted, LimitsExceeded, ReservationGone
from govmiddleware.core.registries import StoredApiToken
from govmiddleware.core.scopes import Scope
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Now, SlidingWindow, Window
from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger import scripts
from govmiddleware.ledger.api_tokens import RedisApiTokens
from govmiddleware.ledger.keys import SWEEPER, WORKSPACES, WorkspaceKeys, api_token

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

LUA = sorted((file for file in (files("govmiddleware.ledger") / "lua").iterdir()), key=lambda file: file.name)
SCRIPTS = [file for file in LUA if not file.name.startswith("_")]


async def a_varied_day(bench: Bench) -> None:
    """Every script, every kind of counter, every way to begin and to end."""
    token = StoredApiToken("tok_1", "ci", bench.workspace, "operator", 0)
    tokens = RedisApiTokens(bench.redis)
    await tokens.add(token, "5e" * 32)
    await tokens.add(StoredApiToken("tok_2", "cd", bench.workspace, "operator", 0), "5e5f" * 16)
    rates = bench.sliding(3, of=10, seconds=1), bench.sliding(3, of=9), bench.sliding(3, of=99, seconds=3600)
    budgets = bench.month(5, of=20), bench.calendar(2, CalendarUnit.HOUR, of=100), bench.lifetime(1, of=50)
    slot = bench.slot(of=3)
    assert isinstance(await bench.open("settled", slot, *rates, api_token="tok_1"), Granted)
    assert isinstance(await bench.extend("settled", *budgets, api_token="tok_1"), Granted)
    await bench.settle("settled", 0, 1, 2, 3, 400, 5, 6)
    assert isinstance(await bench.open("refused-later", slot, rates[1]), Granted)
    assert isinstance(await bench.extend("refused-later", budgets[0]), LimitsExceeded)
    assert isinstance(await bench.open("refused", slot, budgets[0]), LimitsExceeded)
    await bench.open("released", slot, *rates[1:])
    await bench.release("released")
    await bench.open("cancelled", slot)
    await bench.cancel("cancelled")
    await bench.cancel("unknown", slot)
    assert isinstance(await bench.open("unknown", slot), ReservationGone)
    await bench.open("swept", slot, *rates[1:], budgets[1])
    bench.clock.advance(40)
    await bench.open("renewed", slot)
    bench.clock.advance(40)
    await bench.renew("renewed")
    assert await bench.ledger.take_sweep_turn(60_000)
    await bench.sweep("swept")
    bench.clock.advance(3 * 3600)
    await bench.open("much-later", *rates, budgets[1])
    await bench.settle("much-later", 1, 1, 1, 1)
    bench.clock.advance(-3600 * 24 * 60)
    await bench.open("behind", bench.month(0, of=1, value=budgets[0].counter.value))
    await tokens.revoke(token)
    assert isinstance(await bench.open("revoked", api_token="tok_1"), ApiTokenRevoked)
    await bench.open("open", slot, rates[1], bench.lifetime(3, of=50))
    await bench.journal.append(bench.workspace, b"{}")
    await bench.audited()


# Names and lifetimes -----------------------------------------------------------------------------


def test_the_names_of_keys_are_what_other_versions_expect() -> None:
    keys = WorkspaceKeys("acme")
    assert (WORKSPACES, SWEEPER) == ("gov:workspaces", "gov:sweeper")
    assert api_token("5e" * 32) == f"gov:token:{{{'5e' * 32}}}"
    assert {name: getattr(keys, name) for name in keys.__slots__} == {
        "tokens": "gov:{acme}:tokens",
        "active_tokens": "gov:{acme}:active",
        "state": "gov:{acme}:state",
        "ratios_prefix": "gov:{acme}:ratios:",
        "restorer": "gov:{acme}:restorer",
        "open": "gov:{acme}:open",
        "journal": "gov:{acme}:journal",
        "reservation_prefix": "gov:{acme}:r:",
        "counter_prefix": "gov:{acme}:c:",
        "adjustment_prefix": "gov:{acme}:a:",
        "book_prefix": "gov:{acme}:b:",
        "terms_prefix": "gov:{acme}:t:",
    }
    assert keys.reservation("req_1") == "gov:{acme}:r:req_1"
    assert keys.counter("user:cost_usd:month:ann") == "gov:{acme}:c:user:cost_usd:month:ann"
    assert keys.counter_name("gov:{acme}:c:user:cost_usd:month:gov:{acme}:c:x") == (
        "user:cost_usd:month:gov:{acme}:c:x"
    )


async def test_counters_are_named_by_scope_meter_window_and_value(bench: Bench) -> None:
    slots = bench.hold(1, of=1, window=Now(), meter=Meter.CONCURRENCY, scope=Scope.API_TOKEN, value="ci")
    assert [
        hold.counter.name for hold in (bench.sliding(1, of=1), bench.month(1, of=1), bench.lifetime(1, of=1), slots)
    ] == [
        "user:total_tokens:60s:ann",
        "user:cost_usd:month:ann",
        "user:total_tokens:lifetime:ann",
        "api_token:concurrency:now:ci",
    ]  # fmt: skip


FOR_EVER = {
    r"gov:workspaces": "the directory",
    r"gov:token:\{\w+\}": "revoked ones stay known",
    r"gov:\{acme\}:tokens": "the list of tokens",
    r"gov:\{acme\}:active": "read at every admission",
    r"gov:\{acme\}:state": "time never goes backwards",
    r"gov:\{acme\}:journal": "nothing trims it yet",
    r"gov:\{acme\}:c:\w+:\w+:lifetime:.*": "lifetime",
}
WHILE_OPEN = {
    r"gov:\{acme\}:open": "open reservations",
    r"gov:\{acme\}:r:(renewed|open|behind)": "open",
    r"gov:\{acme\}:c:workspace:concurrency:now:.*": "until zero",
}


async def test_every_key_has_a_ttl_or_stands_in_the_table_of_keys(bench: Bench) -> None:
    await a_varied_day(bench)
    without = {key for key in bench.raw.scan_iter(count=1000) if bench.raw.pttl(key) == -1}
    allowed = [*FOR_EVER, *WHILE_OPEN]
    assert {key for key in without if not any(re.fullmatch(each, key) for each in allowed)} == set()
    assert {each for each in allowed if not any(re.fullmatch(each, key) for key in without)} == set()

    for name in ("renewed", "open", "behind"):
        await bench.release(name)
    without = {key for key in bench.raw.scan_iter(count=1000) if bench.raw.pttl(key) == -1}
    assert {key for key in without if not any(re.fullmatch(each, key) for each in FOR_EVER)} == set()


@pytest.mark.parametrize("window", [CalendarWindow(CalendarUnit.MONTH), SlidingWindow(60), Now()])
async def test_the_crossing_of_a_dry_run_that_admits_nothing_leaves_no_key_for_ever(
    bench: Bench, window: Window
) -> None:
    meter = Meter.CONCURRENCY if isinstance(window, Now) else Meter.TOTAL_TOKENS
    limit = Limit("small", Scope.USER, meter, window, 5, mode=Mode.DRY_RUN)
    hold = Hold(Counter(Scope.USER, meter, window, "ann", is_shadow=True), Amount(10), (limit,))
    outcome = await bench.open("a", hold)
    assert isinstance(outcome, Granted)
    assert outcome.states[0].crossings
    assert bench.raw.pttl(bench.keys.counter(hold.counter.name)) > 0


async def test_a_counter_outlives_its_window(bench: Bench) -> None:
    """By its length and a minute if it slides, by a day if it is one of the calendar's."""
    for hold, at_least in [
        (bench.sliding(1, of=9, seconds=1), 62_000),
        (bench.sliding(1, of=9), 180_000),
        (bench.sliding(1, of=9, seconds=3600), 7_260_000),
        (bench.month(1, of=9), (16 * 24 + 11.5 + 24) * 3600_000),
    ]:
        await bench.open(f"a{at_least}", hold)
        lives = bench.raw.pttl(bench.keys.counter(hold.counter.name))
        assert 0 <= at_least - lives < 5000 or 0 <= lives - at_least < 100


async def test_all_keys_of_a_workspace_lie_in_one_slot(bench: Bench) -> None:
    await a_varied_day(bench)
    everything = set(bench.raw.scan_iter(count=1000))
    keys = everything - {WORKSPACES, SWEEPER, api_token("5e" * 32), api_token("5e5f" * 16)}
    assert len(keys) > 10
    assert {key[: len("gov:{acme}:")] for key in keys} == {"gov:{acme}:"}


async def test_a_value_with_braces_stays_in_the_slot_of_its_workspace(bench: Bench) -> None:
    hold = bench.month(1, of=9, value="{x}:y z")
    await bench.open("a", hold)
    await bench.settle("a", 1)
    assert (await bench.records())[0].holds[0].counter == hold.counter.name
    await bench.audited()


# Scripts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_says_what_it_takes_and_returns(script: Any) -> None:
    lines = script.read_text("utf-8").splitlines()
    assert lines[0].startswith("#!lua")
    header = "\n".join(line for line in lines[1 : lines.index("")] if line.startswith("--"))
    assert len(header.splitlines()) == lines.index("") - 1
    for word in (r"^-- [A-Z][\w ]+", r"^-- KEYS +1 ", r"^-- ARGV +1 ", r"^-- Returns  "):
        assert re.search(word, header, re.MULTILINE), word


def test_only_scripts_that_end_what_has_begun_write_when_memory_is_short() -> None:
    flags = {script.name: script.read_text("utf-8").split("\n", 1)[0] for script in SCRIPTS}
    assert flags == {
        "acquire.lua": "#!lua",
        "adjust.lua": "#!lua flags=allow-oom",
        "begin_restoring.lua": "#!lua",
        "drain_turn.lua": "#!lua flags=allow-oom",
        "end_restoring.lua": "#!lua",
        "look.lua": "#!lua flags=no-writes",
        "expired.lua": "#!lua flags=no-writes",
        "replace_fields.lua": "#!lua",
        "replace_head.lua": "#!lua",
        "renew.lua": "#!lua flags=allow-oom",
        "settle.lua": "#!lua flags=allow-oom",
        "snapshot.lua": "#!lua flags=no-writes",
        "since.lua": "#!lua flags=no-writes",
        "sweep.lua": "#!lua flags=allow-oom",
        "trim.lua": "#!lua flags=allow-oom",
    }


async def test_scripts_touch_no_key_that_they_did_not_declare(
    start_valkey: Callable[..., str], bench_on: Callable[[str], Bench]
) -> None:
    """Seen with MONITOR. Only the snapshot, which writes nothing, looks for reservations by itself."""
    bench = bench_on(start_valkey())
    bench.at("2026-07-15 12:30:00")
    await a_varied_day(bench)  # from here on the server knows every script: each comes as one EVALSHA
    bench.raw.flushall()
    bench.ledger._keys.clear()
    bench.at("2026-07-15 12:30:00")
    seen: list[tuple[str, str]] = []
    async with bench.redis.monitor() as monitor:

        async def watch() -> None:
            async for event in monitor.listen():
                seen.append((event["client_type"], event["command"]))
                if event["command"] == "ECHO the-end":
                    return

        watching = asyncio.create_task(watch())
        await a_varied_day(bench)
        await bench.redis.echo("the-end")
        await watching
    declared: Sequence[str] = ()
    touched: dict[str, set[str]] = {}
    for client, line in seen:
        words = line.split(" ")
        if words[0] == "EVALSHA":
            sha, count = words[1], int(words[2])
            declared = words[3 : 3 + count]
        elif client == "lua" and words[0] != "TIME":
            touched.setdefault(sha, set()).add(words[0])
            looks_only = sha == scripts.snapshot._sha and words[0] == "GET"
            assert words[1] in declared or looks_only, line
    assert {sha: len(commands) for sha, commands in touched.items()} == {
        scripts.acquire._sha: 15,
        scripts.settle._sha: 9,
        scripts.renew._sha: 4,
        scripts.sweep._sha: 8,
        scripts.snapshot._sha: 5,
    }, "every command of every script was seen"


async def test_when_memory_is_short_nothing_begins_and_all_that_began_ends(
    start_valkey: Callable[..., str], bench_on: Callable[[str], Bench]
) -> None:
    bench = bench_on(start_valkey("--maxmemory-policy", "noeviction"))
    for name in ("settled", "swept", "released"):
        await bench.open(name, bench.month(5, of=100))
    await bench.renew("settled"), await bench.sweep("settled")  # the server knows the scripts
    bench.raw.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match="OutOfMemory"):
        await bench.open("new", bench.month(5, of=100))
    assert await bench.renew("settled")
    assert await bench.settle("settled", 3)
    bench.clock.advance(60)
    assert await bench.sweep("swept")
    assert await bench.release("released")
    bench.raw.config_set("maxmemory", 0)
    assert await bench.look(bench.month(0, of=100)) == (8, 0)
    await bench.audited()


async def test_scripts_that_the_store_forgot_are_sent_again(bench: Bench) -> None:
    month = bench.month(5, of=100)
    for call in (
        lambda: bench.open("a", month),
        lambda: bench.extend("a", bench.slot(of=3)),
        lambda: bench.renew("a"),
        lambda: bench.settle("a", 4, 0),
        lambda: bench.cancel("b", month),
        lambda: bench.sweep("a"),
    ):
        bench.raw.script_flush()
        await call()
    assert await bench.look(month) == (4, 0)
    bench.raw.script_flush()
    await bench.audited()
