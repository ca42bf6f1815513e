"""Whatever is done to a budget, it says what a few lines of plain Python say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from govmiddleware import Governance
from govmiddleware.testing.clock import Clock

USERS = ("ann", "bob", "eve")
IDLE, MOST, CAP, EACH = 100, 2, 60, 25

user = st.sampled_from(USERS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("consume"), st.none() | user, st.integers(0, 20)),
        st.tuples(st.sampled_from(["reset", "close"]), st.none() | user),
        st.tuples(st.just("wait"), st.sampled_from([1, 40, IDLE])),
    ),
    max_size=25,
)


class Model:
    """What a budget is."""

    def __init__(self) -> None:
        self.now, self.whole, self.used, self.last = 0, 0, dict[str, int](), dict[str, int]()

    def forget(self, name: str) -> int | None:
        self.last.pop(name, None)
        return self.used.pop(name, None)

    def wait(self, seconds: int) -> None:
        self.now += seconds
        for name in [name for name, last in self.last.items() if last <= self.now - IDLE]:
            self.forget(name)

    def consume(self, name: str | None, tokens: int) -> int:
        self.whole += tokens
        if name is None:
            return self.whole
        if name not in self.used and len(self.used) == MOST:
            self.forget(min(self.last, key=lambda each: (self.last[each], each)))
        self.used[name], self.last[name] = self.used.get(name, 0) + tokens, self.now
        return self.used[name]

    def reset(self, name: str | None) -> None:
        if name is None:
            self.whole = 0
        for each in [name] if name else list(self.used):
            if each in self.used:
                self.used[each], self.last[each] = 0, self.now

    def close(self, name: str | None) -> int | None:
        if name is not None:
            return self.forget(name)
        final, self.whole = self.whole, 0
        self.used.clear()
        self.last.clear()
        return final

    def reason(self, name: str) -> str | None:
        if self.whole >= CAP:
            return "max_tokens"
        return "per_user_max_tokens" if self.used.get(name, 0) >= EACH else None


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(steps=steps)
def test_a_budget_is_what_its_model_is(
    make_governance: Callable[..., Governance],
    gov_store: str,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[Any, ...]],
) -> None:
    clock, model = Clock(), Model()
    with Redis.from_url(gov_store) as raw:
        raw.flushall()
    journal = f"sqlite:///{tmp_path_factory.mktemp('journal')}/journal.sqlite"
    with make_governance(clock=clock, journal_url=journal) as governance:
        budget = governance.sync_budget(
            "b", max_tokens=CAP, per_user_max_tokens=EACH, max_users=MOST, idle_seconds=IDLE
        )
        for name, *arguments in steps:
            if name == "wait":
                clock.advance(arguments[0])
                model.wait(arguments[0])
            elif name == "consume":
                usage = budget.consume(arguments[0], input_tokens=arguments[1])
                assert usage.total_tokens == model.consume(*arguments)
            elif name == "reset":
                budget.reset(*arguments)
                model.reset(*arguments)
            else:
                final, expected = budget.close(*arguments), model.close(*arguments)
                assert (final.total_tokens if final else None) == expected or (
                    final is None and expected == 0
                )
            assert {each: usage.total_tokens for each, usage in budget.all_usage().items()} == model.used
            assert budget.usage_for().total_tokens == model.whole
            for each in USERS:
                assert budget.allows_step(each).reason == model.reason(each)
                assert budget.exists(each) == (each in model.used)
