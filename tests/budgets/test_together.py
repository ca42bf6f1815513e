"""Many at once, lost answers, stores that die: no consumption is lost, and none counts twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from govmiddleware import Governance, Settings, StoreUnavailable
from govmiddleware.budgets import asynchronous, budget_book, synchronous
from govmiddleware.core.adjustments import Action, Adjusted, Adjustment, NotAdjusted
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.usage import Usage
from govmiddleware.ledger.adjustments import RedisAdjustments, SyncRedisAdjustments
from govmiddleware.services.audit import audit

if TYPE_CHECKING:
    from tests.budgets.conftest import Budgets

PROCESS = """
import sys
from govmiddleware import Governance, Settings

with Governance(Settings(redis_url=sys.argv[1])) as governance:
    budget = governance.sync_budget("research", max_tokens=10)
    budget.exists("ann")
    print("ready", flush=True)
    sys.stdin.readline()
    for step in range(40):
        budget.consume("ann", input_tokens=1, output_tokens=2, cost_usd="0.001")
"""


async def test_steps_at_the_same_time_on_one_event_loop_are_all_counted(budgets: Budgets) -> None:
    budget = budgets.budget()
    await asyncio.gather(*(budget.consume("ann", input_tokens=n) for n in range(30)))
    usage = await budget.usage_for()
    assert (usage.total_tokens, usage.requests) == (sum(range(30)), 30)
    assert usage.total_tokens == (await budget.usage_for("ann")).total_tokens


async def test_eight_threads_share_a_budget(budgets: Budgets) -> None:
    budget = budgets.governance.sync_budget("research")
    begin = threading.Barrier(8)

    def work(thread: int) -> None:
        begin.wait()
        for _ in range(25):
            budget.consume(f"user {thread % 2}", input_tokens=1, output_tokens=2)

    with ThreadPoolExecutor(8) as threads:
        await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(threads, work, n) for n in range(8))
        )
    usage = budget.usage_for()
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (200, 400, 200)
    assert {name: each.requests for name, each in budget.all_usage().items()} == {
        "user 0": 100,
        "user 1": 100,
    }


@pytest.fixture
def processes(gov_store: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Two, which consume when they get a line."""
    command = [sys.executable, "-c", PROCESS, gov_store]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


async def test_processes_share_a_budget_with_an_event_loop(
    make_governance: Callable[..., Governance], processes: list[subprocess.Popen[str]]
) -> None:
    for process in processes:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    async with make_governance() as governance:
        budget = governance.budget("research")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for _ in range(40):
            await budget.consume("ann", input_tokens=1, output_tokens=2, cost_usd="0.001")
        for process in processes:
            assert await asyncio.to_thread(process.wait, 30) == 0
        usage = await budget.usage_for("ann")
        assert (usage.requests, usage.total_tokens, str(usage.cost_usd)) == (120, 360, "0.120000000")
        assert await budget.usage_for() == usage
        assert (await audit(governance.journal)).ok


@pytest.fixture
def loses_answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The store carries out the next adjustments, as many as stand in the list, and nobody hears of it."""
    losses: list[str] = []
    adjust, sync_adjust = RedisAdjustments.adjust, SyncRedisAdjustments.adjust

    def lose() -> None:
        if losses:
            raise StoreUnavailable(losses.pop())

    async def answered(self: Any, workspace: str, adjustment: Any) -> Any:
        answer = await adjust(self, workspace, adjustment)
        lose()
        return answer

    def sync_answered(self: Any, workspace: str, adjustment: Any) -> Any:
        answer = sync_adjust(self, workspace, adjustment)
        lose()
        return answer

    monkeypatch.setattr(RedisAdjustments, "adjust", answered)
    monkeypatch.setattr(SyncRedisAdjustments, "adjust", sync_answered)
    for module in (asynchronous, synchronous):
        monkeypatch.setattr(module, "PAUSES", (0.0, 0.0, 0.0))
    return losses


async def test_a_consumption_whose_answer_is_lost_counts_once(
    budgets: Budgets, loses_answers: list[str]
) -> None:
    budget = budgets.budget()
    loses_answers += ["lost"] * 3
    assert (await budget.consume("ann", input_tokens=10)).total_tokens == 10
    assert (await budget.usage_for()).requests == 1
    loses_answers += ["lost"]
    final = await budget.close("ann")
    assert final is not None
    assert final.total_tokens == 10


async def test_a_caller_with_a_key_can_repeat_what_failed(budgets: Budgets, loses_answers: list[str]) -> None:
    budget = budgets.budget()
    loses_answers += ["lost"] * 4
    with pytest.raises(StoreUnavailable, match="lost"):
        await budget.consume("ann", input_tokens=10, idempotency_key="step 7")
    assert (await budget.consume("ann", input_tokens=10, idempotency_key="step 7")).total_tokens == 10


async def test_a_consumer_that_is_cancelled_has_consumed(
    make_governance: Callable[..., Governance],
) -> None:
    async with make_governance() as governance:
        budget = governance.budget("research")
        await budget.usage_for()
        consumer = asyncio.create_task(budget.consume(input_tokens=10))
        await asyncio.sleep(0)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        async with asyncio.timeout(10):
            while (await budget.usage_for()).requests == 0:
                await asyncio.sleep(0.005)


async def test_a_store_that_does_not_answer_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (asynchronous, synchronous):
        monkeypatch.setattr(module, "PAUSES", (0.0,))
    async with Governance(Settings(redis_url=f"unix://{tmp_path}/nobody")) as governance:
        with pytest.raises(StoreUnavailable):
            await governance.budget("research").consume(input_tokens=1)
        with pytest.raises(StoreUnavailable):
            governance.sync_budget("research").consume(input_tokens=1)


def test_an_embedded_store_serves_threads_without_an_event_loop_and_comes_back_when_it_was_killed(
    tmp_path: Path,
) -> None:
    with Governance(Settings(data_dir=tmp_path)) as governance:
        budget = governance.sync_budget("research", max_tokens=30)
        budget.consume(input_tokens=10)
        with Redis.from_url(governance.storage.synchronous._url) as raw:
            os.kill(int(raw.info("server")["process_id"]), signal.SIGKILL)
        budget.consume(input_tokens=10)
        assert budget.usage_for().remaining == 10
    assert budget.allows_step(), "it is opened again where it is used again"
    governance.storage.synchronous.close()


def test_who_was_idle_is_forgotten_only_if_it_still_is() -> None:
    book = budget_book("research", PriceBook(), {})
    consuming = book.consume("ann", Usage(10), None, None, None)
    next(consuming)
    question = consuming.send(Adjusted((0,) * 10, (10, 0, 0, 1, 0) * 2, "{}", ("bob",)))
    assert isinstance(question, Adjustment)
    assert question.member is not None
    assert (question.action, question.member.name, question.if_idle) == (Action.FORGET, "bob", True)
    with pytest.raises(StopIteration):
        consuming.send(NotAdjusted.BUSY)
