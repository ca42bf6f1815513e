"""Counting prompts: the same count wherever it is from, off the loop where it takes long."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core import tokens
from govmiddleware.core.tokens import count_each, count_tokens
from govmiddleware.metrics import Metrics
from govmiddleware.services import counting
from govmiddleware.services.counting import TokenCounter
from govmiddleware.services.turns import compute

TEXTS = st.lists(
    st.text(max_size=6) | st.text("ab \ud800國", min_size=1, max_size=9).map(lambda text: text * 90)
)


@settings(max_examples=30, deadline=None)  # the first reads the vocabulary
@given(TEXTS)
def test_a_prompt_counts_the_same_the_first_time_and_the_second(texts: list[str]) -> None:
    async def count() -> tuple[int, int]:
        counter = TokenCounter()
        return await counter.count(texts, "gpt-4o"), await counter.count(texts, "gpt-4o")

    assert asyncio.run(count()) == (count_tokens(texts), count_tokens(texts))


def characters(metrics: Metrics, source: str) -> float:
    return (
        metrics.registry.get_sample_value("govmiddleware_counted_characters_total", {"source": source}) or 0
    )


async def test_of_a_conversation_that_grows_only_what_is_new_is_counted() -> None:
    metrics = Metrics()
    counter = TokenCounter(metrics)
    turns = [f"{number} word" * 100 for number in range(4)]
    for length in range(1, 5):
        await counter.count(["Hi", *turns[:length]], "gpt-4o", workspace="acme")
    size = len(turns[0])
    assert (characters(metrics, "counter"), characters(metrics, "memory")) == (4 * size, 6 * size)
    await counter.count(turns, "gpt-4o", workspace="globex")
    assert characters(metrics, "counter") == 8 * size


@pytest.mark.parametrize("texts", [["word " * 10_000], ["word"] * 1_000], ids=["one", "many"])
async def test_the_loop_goes_on_while_a_large_prompt_is_counted(
    monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    counted = threading.Event()

    def count_late(texts: Sequence[str], *, encoding: str) -> list[int]:
        assert counted.wait(10), "the loop, which would say so, is held"
        return count_each(texts, encoding=encoding)

    monkeypatch.setattr(counting, "count_each", count_late)
    count = asyncio.create_task(TokenCounter().count(texts, "gpt-4o"))
    await asyncio.sleep(0)
    counted.set()
    assert await count == count_tokens(texts)


async def test_threads_that_compute_take_short_turns_until_the_last_is_done() -> None:
    usual = sys.getswitchinterval()
    both, ends = threading.Barrier(2), threading.Event()

    def work() -> float:
        both.wait(10)
        ends.wait(10)
        return sys.getswitchinterval()

    async def fail() -> None:
        with pytest.raises(threading.BrokenBarrierError):
            await compute(both.wait)

    first, second = asyncio.create_task(compute(work)), asyncio.create_task(compute(work))
    while both.n_waiting or both.broken or sys.getswitchinterval() == usual:
        await asyncio.sleep(0)
    ends.set()
    assert await first <= 0.0005
    assert await second <= 0.0005
    both.abort()
    await fail()
    assert sys.getswitchinterval() == usual


async def test_a_vocabulary_is_read_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []

    def make(encoding: str) -> Callable[[Sequence[str]], list[int]]:
        readers.append(threading.current_thread())
        return lambda texts: [1 for _ in texts]

    monkeypatch.setattr(tokens, "_counters", {})
    monkeypatch.setattr(tokens, "ReferenceCounter", make)
    monkeypatch.setattr(tokens, "FastCounter", make)
    assert await TokenCounter().count(["Hello"], "gpt-4") == 1
    [reader] = readers
    assert reader is not threading.main_thread()


async def test_much_to_compute_takes_few_threads_for_each_keeps_memory() -> None:
    begun: list[threading.Thread] = []
    ends = threading.Event()

    def work() -> threading.Thread:
        begun.append(threading.current_thread())
        ends.wait(10)
        return threading.current_thread()

    all_work = [asyncio.create_task(compute(work)) for _ in range(6)]
    while len(begun) < 2:
        await asyncio.sleep(0)
    ends.set()
    assert len(set(await asyncio.gather(*all_work))) == 2
