"""What budgets say of a step, count, and forget."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from govmiddleware import (
    AgentBudget,
    BudgetExhaustedError,
    BudgetUsage,
    Caps,
    ConfigurationError,
    SessionBudgets,
    SyncAgentBudget,
    SyncSessionBudgets,
)
from govmiddleware.core.refusals import ModelNotPriced
from govmiddleware.testing.clock import Clock

if TYPE_CHECKING:
    from tests.budgets.conftest import Budgets

CAPS: list[tuple[str, Any]] = [
    ("max_tokens", 100),
    ("max_input_tokens", 60),
    ("max_output_tokens", 40),
    ("max_cost_usd", "0.01"),
    ("max_wall_clock", 30),
]
"""All are reached at once by what `use_up` does."""


async def use_up(budget: Any, clock: Clock, *owner: str) -> None:
    await budget.allows_step(*owner)
    await budget.consume(*owner, input_tokens=60, output_tokens=40, cost_usd="0.01")
    clock.advance(30)


# Steps -------------------------------------------------------------------------------------------


async def test_an_agent_loop_ends_when_its_budget_does(budgets: Budgets) -> None:
    budget, steps = budgets.budget(max_tokens=100), 0
    while await budget.allows_step():
        await budget.consume(input_tokens=20, output_tokens=10)
        steps += 1
    assert steps == 4
    assert (await budget.usage_for()).total_tokens == 120


@pytest.mark.parametrize("first", range(len(CAPS)))
async def test_the_reason_is_the_first_cap_that_is_reached_in_the_order_of_their_names(
    budgets: Budgets, gov_clock: Clock, first: int
) -> None:
    """Those before it are not reached; nor is any with a little more room."""
    higher = {name: cap + 1 if isinstance(cap, int) else "0.010000001" for name, cap in CAPS}
    budget = budgets.budget(**higher | dict(CAPS[first:]))
    roomy = budgets.budget("roomy", **higher)
    for each in (budget, roomy):
        await each.allows_step()
    for each in (budget, roomy):
        await each.consume(input_tokens=60, output_tokens=40, cost_usd="0.01")
    gov_clock.advance(30)
    blocked = await budget.allows_step()
    assert (blocked.reason, blocked.allowed, bool(blocked)) == (CAPS[first][0], False, False)
    free = await roomy.allows_step()
    assert (free.reason, free.allowed, bool(free)) == (None, True, True)


@pytest.mark.parametrize("first", range(len(CAPS)))
async def test_a_users_caps_come_after_those_of_all_and_have_a_name_of_their_own(
    budgets: Budgets, gov_clock: Clock, first: int
) -> None:
    per_user = {f"per_user_{name}": cap for name, cap in CAPS[first:]}
    budget = budgets.budget(**per_user)
    await use_up(budget, gov_clock, "ann")
    assert (await budget.allows_step("ann")).reason == f"per_user_{CAPS[first][0]}"
    assert await budget.allows_step("bob")
    assert await budget.allows_step()


async def test_all_together_are_bounded_whoever_uses_it(budgets: Budgets) -> None:
    budget = budgets.budget(max_tokens=100, per_user_max_tokens=60)
    await budget.consume("ann", input_tokens=60)
    assert (await budget.allows_step("ann")).reason == "per_user_max_tokens"
    assert (await budget.allows_step("bob")).reason is None
    await budget.consume("bob", input_tokens=40)
    assert (await budget.allows_step("ann")).reason == "max_tokens"
    assert (await budget.allows_step("eve")).reason == "max_tokens"
    assert (await budget.allows_step()).reason == "max_tokens"


async def test_warnings_name_what_is_nearly_used_up_and_how_far(budgets: Budgets) -> None:
    budget = budgets.budget(
        max_tokens=100, max_cost_usd="1", per_user_max_output_tokens=50, per_user_max_tokens=1000
    )
    await budget.consume("ann", input_tokens=33, output_tokens=46, cost_usd="0.9199")
    assert (await budget.allows_step("ann")).warnings == ("cost at 91%", "per-user output tokens at 92%")
    await budget.consume("ann", input_tokens=4, cost_usd=0)
    step = await budget.allows_step("ann")
    assert step.warnings == ("tokens at 83%", "cost at 91%", "per-user output tokens at 92%")
    assert step.allowed
    assert (await budget.allows_step()).warnings == ("tokens at 83%", "cost at 91%")


@pytest.mark.parametrize(("warn_at", "warnings"), [(0.5, ("tokens at 50%",)), (0.51, ()), (1, ())])
async def test_from_where_on_it_warns_can_be_chosen(
    budgets: Budgets, warn_at: float, warnings: tuple[str, ...]
) -> None:
    budget = budgets.budget(max_tokens=100, warn_at=warn_at)
    await budget.consume(input_tokens=50)
    assert (await budget.allows_step()).warnings == warnings


async def test_a_budget_without_caps_counts_and_never_says_no(budgets: Budgets) -> None:
    budget = budgets.budget()
    await budget.consume("ann", input_tokens=10**9, output_tokens=10**9, cost_usd=10**6)
    step = await budget.allows_step("ann")
    assert (step.allowed, step.warnings) == (True, ())
    usage = await budget.usage_for()
    assert (usage.total_tokens, usage.maximum, usage.remaining, usage.remaining_cost_usd) == (
        2 * 10**9,
        None,
        None,
        None,
    )
    await budget.check("ann", input_tokens=10**9)


async def test_a_cap_of_nothing_allows_nothing(budgets: Budgets) -> None:
    step = await budgets.budget(max_tokens=0).allows_step()
    assert (step.reason, step.warnings) == ("max_tokens", ("tokens at 100%",))


async def test_a_wall_clock_runs_from_the_first_step_and_begins_again_when_it_is_reset(
    budgets: Budgets, gov_clock: Clock
) -> None:
    budget = budgets.budget(max_wall_clock=10)
    await budget.usage_for()
    gov_clock.advance(100)
    assert await budget.allows_step(), "looking does not start it"
    gov_clock.advance(9.9)
    assert await budget.allows_step()
    gov_clock.advance(0.1)
    assert (await budget.allows_step()).reason == "max_wall_clock"
    await budget.reset()
    assert await budget.allows_step()
    gov_clock.advance(10)
    assert (await budget.allows_step()).reason == "max_wall_clock"


# Usage -------------------------------------------------------------------------------------------


async def test_usage_says_what_was_used_and_what_remains(budgets: Budgets) -> None:
    budget = budgets.budget(max_tokens=100, max_cost_usd="0.5", per_user_max_tokens=40)
    consumed = await budget.consume("ann", input_tokens=20, output_tokens=10, cost_usd="0.1")
    assert consumed == BudgetUsage(20, 10, Decimal("0.1"), 1, 0, Caps(max_tokens=40))
    assert consumed == await budget.usage_for("ann")
    await budget.consume("bob", input_tokens=1, output_tokens=2, cost_usd=Decimal("0.25"))
    usage = await budget.usage_for()
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (21, 12, 33)
    assert (usage.cost_usd, usage.remaining_cost_usd) == (Decimal("0.35"), Decimal("0.15"))
    assert (usage.requests, usage.maximum, usage.remaining) == (2, 100, 67)
    await budget.consume(input_tokens=90, cost_usd=1)
    usage = await budget.usage_for()
    assert (usage.remaining, usage.remaining_cost_usd) == (0, 0)


async def test_tokens_are_priced_by_the_catalogue(budgets: Budgets) -> None:
    budget = budgets.budget(max_cost_usd="0.01")
    usage = await budget.consume(model="m", input_tokens=1000, cached_tokens=400, output_tokens=500)
    assert usage.cost_usd == Decimal("0.00164")
    usage = await budget.consume(model="m", input_tokens=1000, cost_usd="0.002")
    assert usage.cost_usd == Decimal("0.00364"), "what was spent is known better than its price"


async def test_what_has_no_price_is_not_free(budgets: Budgets) -> None:
    budget = budgets.budget(max_cost_usd="0.01")
    with pytest.raises(ModelNotPriced, match="'unheard of' has no price"):
        await budget.consume(model="unheard of", input_tokens=1)
    with pytest.raises(ValueError, match=r"needs model=.*or cost_usd="):
        await budget.consume("ann", input_tokens=1)
    sessions = budgets.sessions()
    await sessions.open("s", Caps(max_cost_usd=1))
    with pytest.raises(ValueError, match="needs model="):
        await sessions.consume("s", input_tokens=1)
    assert (await budget.usage_for()).requests == (await sessions.usage_for("s")).requests == 0


@pytest.mark.parametrize("cost", [0.1, -1, "1e", True, "inf", "5000000"])
async def test_a_cost_is_an_exact_amount(budgets: Budgets, cost: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"cost_usd = .*expected an amount of USD"):
        await budgets.budget().consume(cost_usd=cost)
    with pytest.raises(ConfigurationError, match=r"max_cost_usd = .*expected an amount of USD"):
        budgets.budget(max_cost_usd=cost)


@pytest.mark.parametrize("tokens", [-1, 1.5, True, 2**53])
async def test_tokens_are_whole_numbers(budgets: Budgets, tokens: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"output_tokens = .*expected a whole number"):
        await budgets.budget().consume(output_tokens=tokens)
    with pytest.raises(ConfigurationError, match=r"max_tokens = .*expected a whole number"):
        budgets.budget(max_tokens=tokens)


async def test_all_usage_is_of_every_user(budgets: Budgets) -> None:
    budget = budgets.budget()
    assert await budget.all_usage() == {}
    await asyncio.gather(*(budget.consume(f"user {n}", input_tokens=n) for n in range(8)))
    for n in range(8, 105):
        await budget.consume(f"user {n}", input_tokens=n)
    usage = await budget.all_usage()
    assert {name: each.input_tokens for name, each in usage.items()} == {f"user {n}": n for n in range(105)}


# Estimates ---------------------------------------------------------------------------------------


async def test_an_estimate_that_does_not_fit_raises(budgets: Budgets) -> None:
    sessions = budgets.sessions(default=Caps(max_tokens=100))
    await sessions.consume("s", input_tokens=50, output_tokens=20)
    await sessions.check("s", input_tokens=20, output_tokens=10)
    with pytest.raises(BudgetExhaustedError) as raised:
        await sessions.check("s", input_tokens=20, output_tokens=11)
    error = raised.value
    assert (error.session_id, error.used, error.maximum, error.reason) == ("s", 70, 100, "max_tokens")
    assert str(error) == "'s' has used 70 of 100 (max_tokens): there is no room left"
    copied = pickle.loads(pickle.dumps(error))
    assert (copied.session_id, copied.reason, str(copied)) == ("s", "max_tokens", str(error))
    assert (await sessions.usage_for("s")).total_tokens == 70, "an estimate takes nothing"


async def test_where_a_cap_is_reached_even_nothing_does_not_fit(budgets: Budgets) -> None:
    budget = budgets.budget(max_tokens=10)
    await budget.consume(input_tokens=10)
    with pytest.raises(BudgetExhaustedError):
        await budget.check()


async def test_an_estimate_counts_against_all_caps(budgets: Budgets) -> None:
    budget = budgets.budget(max_cost_usd="0.001", per_user_max_output_tokens=10)
    await budget.check("ann", model="m", input_tokens=1000)
    with pytest.raises(BudgetExhaustedError) as raised:
        await budget.check("ann", model="m", input_tokens=1001)
    assert raised.value.args == ("research", Decimal(0), Decimal("0.001"))
    with pytest.raises(BudgetExhaustedError) as raised:
        await budget.check("ann", model="m", output_tokens=11)
    assert raised.value.args == ("ann", 0, 10)
    assert raised.value.reason == "per_user_max_output_tokens"


# Sessions ----------------------------------------------------------------------------------------


async def test_a_session_keeps_the_caps_that_it_began_with(budgets: Budgets) -> None:
    sessions = budgets.sessions(default=Caps(max_tokens=100, max_cost_usd="0.5"))
    await sessions.allows_step("old")
    sessions.default = Caps(max_tokens=10)
    for session in ("old", "new"):
        await sessions.consume(session, input_tokens=10, cost_usd="0.1")
    assert (await sessions.allows_step("old")).reason is None
    assert (await sessions.allows_step("new")).reason == "max_tokens"
    again = budgets.sessions(default=Caps(max_tokens=1))
    assert (await again.usage_for("old")).caps == Caps(max_tokens=100, max_cost_usd=Decimal("0.5"))
    assert (await again.usage_for("unknown")).maximum == 1
    await again.reset("old")
    assert await again.allows_step("old")
    assert (await again.usage_for("old")).maximum == 100


async def test_a_session_can_begin_under_caps_of_its_own(budgets: Budgets) -> None:
    sessions = budgets.sessions(default=Caps(max_tokens=100))
    assert (await sessions.open("s", Caps(max_tokens=5))).remaining == 5
    await sessions.consume("s", input_tokens=5)
    assert (await sessions.open("s", Caps(max_tokens=50))).remaining == 0
    assert (await sessions.allows_step("s")).reason == "max_tokens"
    assert (await sessions.open("t")).maximum == 100


async def test_looking_begins_no_session(budgets: Budgets) -> None:
    sessions = budgets.sessions()
    for _ in range(2):
        assert not await sessions.exists("s")
        assert (await sessions.usage_for("s")).requests == 0
        assert await sessions.close("s") is None
        await sessions.reset("s")
    assert await sessions.all_usage() == {}
    await sessions.allows_step("s")
    assert await sessions.exists("s")
    assert list(await sessions.all_usage()) == ["s"]


async def test_sessions_do_not_know_of_each_other_nor_of_other_names(budgets: Budgets) -> None:
    sessions, others = budgets.sessions(default=Caps(max_tokens=10)), budgets.sessions("others")
    await sessions.consume("s", input_tokens=10)
    assert (await sessions.allows_step("s")).reason == "max_tokens"
    assert await sessions.allows_step("t")
    assert not await others.exists("s")
    assert (await budgets.budget("chats").usage_for("s")).total_tokens == 0


# Closing, resetting ------------------------------------------------------------------------------


async def test_closing_returns_the_final_figures_and_forgets(budgets: Budgets) -> None:
    sessions = budgets.sessions(default=Caps(max_tokens=100))
    await sessions.consume("s", input_tokens=70, output_tokens=50, cost_usd="0.2")
    final = await sessions.close("s")
    assert final == BudgetUsage(70, 50, Decimal("0.2"), 1, 0, Caps(max_tokens=100))
    assert await sessions.close("s") is None
    assert not await sessions.exists("s")
    assert await sessions.allows_step("s")
    assert (await sessions.usage_for("s")).total_tokens == 0


async def test_a_user_is_closed_and_reset_alone_and_what_all_used_stays(budgets: Budgets) -> None:
    budget = budgets.budget(max_tokens=100, per_user_max_tokens=30)
    for user in ("ann", "bob"):
        await budget.consume(user, input_tokens=30)
    await budget.reset("ann")
    assert (await budget.usage_for("ann")).remaining == 30
    assert await budget.exists("ann")
    final = await budget.close("bob")
    assert final is not None
    assert (final.total_tokens, final.remaining) == (30, 0)
    assert not await budget.exists("bob")
    assert (await budget.usage_for()).total_tokens == 60


async def test_a_whole_budget_is_reset_and_closed_with_its_users(budgets: Budgets) -> None:
    budget = budgets.budget(max_tokens=100)
    assert await budget.close() is None
    for user in ("ann", "bob", None):
        await budget.consume(user, input_tokens=30)
    await budget.reset()
    assert [each.total_tokens for each in (await budget.all_usage()).values()] == [0, 0]
    assert (await budget.usage_for()).remaining == 100
    await budget.consume("ann", input_tokens=7)
    final = await budget.close()
    assert final is not None
    assert (final.total_tokens, final.maximum) == (7, 100)
    assert await budget.all_usage() == {}
    assert await budget.close() is None


# Idle and too many -------------------------------------------------------------------------------


async def test_a_user_that_was_idle_for_a_day_is_forgotten(budgets: Budgets, gov_clock: Clock) -> None:
    budget = budgets.budget(per_user_max_tokens=10)
    for user in ("ann", "bob"):
        await budget.consume(user, input_tokens=10)
    gov_clock.advance(86_399)
    assert not await budget.allows_step("ann")
    await budget.consume("ann")
    gov_clock.advance(1)
    assert not await budget.exists("bob")
    assert list(await budget.all_usage()) == ["ann"]
    assert await budget.close("bob") is None
    assert await budget.allows_step("bob"), "and is new when it comes back"
    assert (await budget.consume("bob", input_tokens=3)).total_tokens == 3
    assert not await budget.allows_step("ann")
    assert (await budget.usage_for()).total_tokens == 23, "what all used stays"


async def test_those_who_are_idle_are_forgotten_as_others_go_on(budgets: Budgets, gov_clock: Clock) -> None:
    budget = budgets.budget(idle_seconds=60)
    for user in ("ann", "bob"):
        await budget.consume(user, input_tokens=10)
    gov_clock.advance(60)
    await budget.consume("eve", input_tokens=1)
    keys = [key async for key in budgets.governance.storage.redis.scan_iter("gov:*:c:budget+user:*")]
    assert len(keys) == 5
    assert all(key.endswith(b"|eve") for key in keys)
    expired = [record["user"] for record in await budgets.records() if record["outcome"] == "expired"]
    assert sorted(expired) == ["ann", "bob"]


async def test_a_session_may_never_be_idle_for_too_long(budgets: Budgets, gov_clock: Clock) -> None:
    sessions = budgets.sessions(idle_seconds=None)
    await sessions.consume("s", input_tokens=10)
    gov_clock.advance(365 * 86_400)
    assert (await sessions.usage_for("s")).total_tokens == 10


async def test_of_too_many_users_the_one_not_used_for_the_longest_is_forgotten(
    budgets: Budgets, gov_clock: Clock
) -> None:
    budget = budgets.budget(max_users=3)
    for user in ("ann", "bob", "eve", "ann", "kim", "lou"):
        await budget.consume(user, input_tokens=10)
        gov_clock.advance(1)
    assert list(await budget.all_usage()) == ["ann", "kim", "lou"]
    assert (await budget.usage_for("ann")).total_tokens == 20


# The books ---------------------------------------------------------------------------------------


async def test_every_change_is_a_record(budgets: Budgets, gov_clock: Clock) -> None:
    budget = budgets.budget()
    await budget.consume("ann", model="m", input_tokens=10, output_tokens=5)
    await budget.reset("ann")
    await budget.close("ann")
    records = await budgets.records()
    assert [(record["kind"], record["outcome"], record["user"]) for record in records] == [
        ("adjustment", "consumed", "ann"),
        ("adjustment", "reset", "ann"),
        ("adjustment", "closed", "ann"),
    ]
    assert records[0]["tags"] == {"budget": "research"}
    assert (records[0]["model_requested"], records[0]["cost_usd"]) == ("m", "0.000020000")
    assert records[0]["usage"]["output_tokens"] == 5
    now = gov_clock.now_ms  # of a wall clock the journal has when it was first used, and when it was reset
    assert records[0]["holds"] == [10, 5, 20_000, 1, now] * 2
    assert records[1]["holds"] == [-10, -5, -20_000, -1, -now]
    report = await budgets.governance.usage.report(by="user")
    assert (report["groups"], report["limits"]) == ([], []), "usage is of calls"


async def test_a_consumption_of_the_same_key_counts_once(budgets: Budgets) -> None:
    budget = budgets.budget()
    for _ in range(2):
        usage = await budget.consume("ann", input_tokens=10, idempotency_key="step 1")
        assert usage.total_tokens == 10
    await budget.consume("ann", input_tokens=10, idempotency_key="step 2")
    await budget.consume("bob", input_tokens=10, idempotency_key="step 1")
    assert (await budget.usage_for()).total_tokens == 30


# What is wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["", "a\nb", "x" * 129])
async def test_a_name_that_cannot_be_counted_under_is_refused(budgets: Budgets, user: str) -> None:
    budget = budgets.budget()
    for method in (
        budget.allows_step,
        budget.usage_for,
        budget.exists,
        budget.close,
        budget.consume,
        budget.reset,
    ):
        with pytest.raises(ValueError, match=r"user = .*expected 1 to 128 printable characters"):
            await method(user)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "a b"}, ConfigurationError, "name = 'a b': expected 1 to 64 letters"),
        ({"workspace": "{x}"}, ConfigurationError, "workspace = '{x}': expected 1 to 64 letters"),
        ({"max_token": 5}, TypeError, "max_token is no option of a budget; there are workspace, max_tokens"),
        ({"warn_at": 0}, ConfigurationError, "warn_at = 0: expected a part above 0"),
        ({"warn_at": 80}, ConfigurationError, "warn_at = 80: expected a part above 0"),
        ({"max_users": 0}, ConfigurationError, "max_users = 0: expected 1 or more"),
        ({"idle_seconds": 0}, ConfigurationError, "idle_seconds = 0: expected seconds above 0"),
        ({"max_wall_clock": -1}, ConfigurationError, "max_wall_clock = -1: expected a whole number"),
    ],
)
async def test_a_mistake_is_told_when_a_budget_is_made(
    budgets: Budgets, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        budgets.budget(**options)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("one", "other"), [(AgentBudget, SyncAgentBudget), (SessionBudgets, SyncSessionBudgets)]
)
def test_both_kinds_take_the_same(one: type, other: type) -> None:
    def methods(of: type) -> dict[str, list[inspect.Parameter]]:
        return {
            name: list(inspect.signature(method).parameters.values())
            for name, method in vars(of).items()
            if inspect.isfunction(method) and name != "__init__"
        }

    assert methods(one) == methods(other)
    assert len(methods(one)) >= 8
