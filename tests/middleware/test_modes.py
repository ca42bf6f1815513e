"""Modes: enforced refuses, dry_run decides and counts as if it did, suggest says so."""

from __future__ import annotations

from dataclasses import replace

from govmiddleware.core.ids import hash_api_token
from govmiddleware.core.limits import Mode
from govmiddleware.testing import Clock

CALLS = {"name": "calls", "scope": "user", "meter": "requests", "window": "day", "hard": 2}
SLOTS = {"name": "slots", "scope": "workspace", "meter": "concurrency", "hard": 1}
EARLY = {"name": "early", "scope": "workspace", "meter": "requests", "window": "day", "hard": 2}
OUTPUT = {"name": "output", "scope": "user", "meter": "output_tokens", "window": "day", "hard": 30}
WIDE = {"name": "wide", "scope": "deployment", "meter": "requests", "window": "day", "hard": 2}


async def test_a_dry_run_lets_pass_and_records_what_it_would_have_refused(
    governed, inside, post, journal, caplog
) -> None:
    governance = await governed(limits=[CALLS], mode="dry_run")
    app = governance.stack(inside)
    assert [(await post(app)).status_code for _ in range(4)] == [200] * 4
    records = await journal(governance)
    assert [record["would_refuse"] for record in records] == [None, None] + ["insufficient_quota"] * 2
    evaluations = [record["evaluations"][0] for record in records]
    assert [each["decision"] for each in evaluations] == ["allow", "warn", "block", "block"]
    assert {each["mode"] for each in evaluations} == {"dry_run"}
    assert [each["consumed"] for each in evaluations] == [0, 1, 2, 2], "what it refused it does not count"
    registry = governance.metrics.registry
    assert registry.get_sample_value("govmiddleware_dry_run_refusals_total", {"limit": "calls"}) == 2
    assert "has lost" not in caplog.text


async def test_a_dry_run_predicts_what_enforcement_does(governed, inside, post, journal) -> None:
    """Which calls, and for which limits, in two trips to the store each."""
    seen: dict[Mode, list[set[str]]] = {}
    for mode in (Mode.DRY_RUN, Mode.ENFORCED):
        token = {"name": "ci", "workspace": mode.value, "sha256": hash_api_token(f"secret of {mode}")}
        settings = {"limits": [CALLS, EARLY, OUTPUT], "api_tokens": [token], "clock": Clock(), "mode": mode}
        governance = await governed(**settings)
        app = governance.stack(inside)
        refused = []
        for number in range(12):
            answer = await post(
                app,
                secret=f"secret of {mode}",
                max_tokens=(8, 35)[number % 2],
                headers={"x-gov-user": "ann" if number % 3 else "bob"},
            )
            limits = answer.json().get("error", {}).get("limits", ())
            refused.append({limit["name"] for limit in limits})
        if mode is Mode.DRY_RUN:
            assert refused == [set()] * 12
            refused = [
                {each["limit"] for each in record["evaluations"] if each["decision"] == "block"}
                for record in await journal(governance, mode.value)
            ]
        seen[mode] = refused
    assert seen[Mode.DRY_RUN] == seen[Mode.ENFORCED]
    assert {"output"} in seen[Mode.ENFORCED]
    assert {"early"} in seen[Mode.ENFORCED]


async def test_what_one_dry_run_would_refuse_takes_nothing_of_the_others(
    governed, inside, post, journal
) -> None:
    """In the second trip, so that what was held in the first one is given back."""
    governance = await governed(limits=[EARLY, OUTPUT], mode="dry_run")
    app = governance.stack(inside)
    for _ in range(3):
        await post(app, max_tokens=31)  # would be refused for its output, after its request was held
    assert (await post(app, max_tokens=5)).status_code == 200
    last = (await journal(governance))[-1]
    assert last["would_refuse"] is None
    assert {each["limit"]: each["consumed"] for each in last["evaluations"]} == {"early": 0, "output": 0}


async def test_a_dry_run_holds_a_call_to_no_output_and_counts_it_as_if(
    governed, inside, post, journal
) -> None:
    governance = await governed(
        limits=[OUTPUT], clamp_min_output_tokens=2, slice_output_tokens=0, mode="dry_run"
    )
    app = governance.stack(inside)
    inside.provider.script = replace(inside.provider.script, text="word " * 50)
    answer = await post(app, max_tokens=50)
    assert "x-gov-max-output-tokens" not in answer.headers
    [record] = await journal(governance)
    assert record["usage"]["output_tokens"] == 50
    assert (record["would_refuse"], record["would_leave_output_tokens"]) == (None, 30)
    assert record["holds"]["dry_run:user:output_tokens:day:anonymous"] == 30


async def test_a_dry_run_slot_is_free_again_when_its_call_ends(governed, inside, post, journal) -> None:
    governance = await governed(limits=[SLOTS], mode="dry_run")
    app = governance.stack(inside)
    for _ in range(3):
        await post(app)
    assert [record["would_refuse"] for record in await journal(governance)] == [None] * 3


async def test_an_enforced_limit_refuses_beside_one_in_dry_run(governed, inside, post) -> None:
    governance = await governed(limits=[CALLS | {"mode": "dry_run"}, EARLY | {"hard": 1}])
    app = governance.stack(inside)
    assert [(await post(app)).status_code for _ in range(2)] == [200, 429]
    answer = await post(app)
    assert [limit["name"] for limit in answer.json()["error"]["limits"]] == ["early"]


async def test_a_suggestion_is_a_header_and_a_record(governed, inside, post, journal) -> None:
    governance = await governed(limits=[CALLS], mode="suggest")
    app = governance.stack(inside)
    answers = [await post(app) for _ in range(3)]
    assert [answer.headers.get("x-gov-recommendation") for answer in answers] == [None, None, "calls 150%"]
    records = await journal(governance)
    assert [record["evaluations"][0]["decision"] for record in records] == ["allow", "warn", "block"]
    assert records[-1]["evaluations"][0]["consumed"] == 2, "it counts everything"


async def test_past_its_soft_value_a_limit_warns(governed, inside, post) -> None:
    governance = await governed(limits=[CALLS | {"hard": 10, "soft": 8}])
    app = governance.stack(inside)
    told = [(await post(app)).headers.get("x-gov-warning") for _ in range(10)]
    assert told == [None] * 7 + ["calls 80%", "calls 90%", "calls 100%"]


async def test_a_dry_run_over_the_whole_deployment_gives_back_what_a_workspace_would_refuse(
    governed, inside, post, journal
) -> None:
    governance = await governed(limits=[WIDE, OUTPUT], mode="dry_run")
    app = governance.stack(inside)
    for _ in range(3):
        await post(app, max_tokens=31)
    assert (await post(app, max_tokens=5)).status_code == 200
    records = await journal(governance)
    assert [bool(record["would_refuse"]) for record in records] == [True, True, True, False]
