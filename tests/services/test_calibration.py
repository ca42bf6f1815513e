"""Calibrators on a store: workers share what they learn, and callers teach their own workspace alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from msgspec.structs import replace
from redis import Redis
from tests.services.worker import new_call

from govmiddleware.core.call import Call, Principal, Settlement
from govmiddleware.core.charge import Charge, Outcome
from govmiddleware.core.demand import Demand
from govmiddleware.core.estimate import input_bound
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.errors import StoreUnavailable
from govmiddleware.ledger.calibration import RedisCalibration
from govmiddleware.ledger.connection import connect
from govmiddleware.metrics import Metrics
from govmiddleware.services.calibration import Calibrator

TEXT = Reach(media=False, cache_1h=False)
CLAUDE = RequestInfo("claude-sonnet-4-5", texts=("x" * 40_000,), reach=TEXT)
SHIPPED = input_bound(1000, CLAUDE.model)
MakeCalibrator = Callable[..., Calibrator]


class Learning:
    """A worker's calibrator, and the metrics that it fills."""

    def __init__(self, store: RedisCalibration, **options: object) -> None:
        self.metrics = Metrics()
        self.calibrator = Calibrator(store, self.metrics, coverage=0.99, **options)  # type: ignore[arg-type]

    def ask(self, info: RequestInfo = CLAUDE, workspace: str = "acme", estimate: int = 1000) -> Call:
        call = new_call()
        call.principal, call.model, call.estimated_input_tokens = (
            Principal(workspace, "ci"),
            info.model,
            estimate,
        )
        tokens = self.calibrator.bound(call, info, estimate)
        call.demand = Demand(tokens, output=0, fixed_cost=0, output_femto=0)
        return call

    def bound(self, info: RequestInfo = CLAUDE, workspace: str = "acme", estimate: int = 1000) -> int:
        asked = self.ask(info, workspace, estimate).demand
        assert asked is not None
        return asked.input_tokens

    def settle(
        self,
        actual: int = 1100,
        *,
        times: int = 1,
        estimate: int = 1000,
        info: RequestInfo = CLAUDE,
        workspace: str = "acme",
        settlement: Settlement = Settlement.EXACT,
        usage: Usage | None = None,
    ) -> None:
        for _ in range(times):
            charge = Charge(usage or Usage(actual), 0, settlement, Outcome.ANSWERED)
            self.calibrator.settled(self.ask(info, workspace, estimate), charge)

    async def refresh(self) -> None:
        await self.calibrator.refresh()

    def metric(self, name: str, **labels: str) -> float | None:
        labels |= {"protocol": new_call().protocol.name, "model": "m"}
        return self.metrics.registry.get_sample_value(f"govmiddleware_{name}", labels)


@pytest.fixture
async def store(gov_store: str) -> AsyncIterator[RedisCalibration]:
    redis = connect(gov_store)
    yield RedisCalibration(redis)
    await redis.aclose()


@pytest.fixture
def worker(store: RedisCalibration) -> Learning:
    return Learning(store)


async def test_two_workers_share_what_they_learn(store: RedisCalibration) -> None:
    one, other = Learning(store), Learning(store)
    one.settle(times=30)
    other.settle(times=30)
    await one.refresh()
    assert one.bound() == SHIPPED, "thirty are too few"
    await other.refresh()
    await one.refresh()
    assert one.bound() == other.bound()
    assert 1100 <= one.bound() < 1300 < SHIPPED


async def test_a_worker_that_starts_learns_from_the_store_after_its_first_call(
    store: RedisCalibration, worker: Learning
) -> None:
    worker.settle(times=100)
    await worker.refresh()
    started = Learning(store)
    assert started.bound() == SHIPPED, "no request waits for the store"
    await started.refresh()
    assert started.bound() == worker.bound() < SHIPPED


async def test_workers_that_merge_at_the_same_time_lose_nothing(store: RedisCalibration) -> None:
    workers = [Learning(store) for _ in range(8)]
    for worker in workers:
        worker.settle(times=10)
    for _ in workers:  # each round at least one gets its turn
        await asyncio.gather(*(worker.refresh() for worker in workers))
    [(_, histogram)] = (await store.read("acme")).items()
    assert histogram == b'{"10":80.0}'


async def test_what_a_workspace_teaches_is_not_applied_to_another(worker: Learning) -> None:
    worker.settle(4000, times=500, workspace="poisoner")
    worker.settle(1, times=500, workspace="miser")
    worker.settle(times=20)
    await worker.refresh()
    assert worker.bound(workspace="poisoner") == 2 * SHIPPED
    assert worker.bound(workspace="miser") < 1050
    assert worker.bound() == worker.bound(workspace="new") == SHIPPED


@pytest.mark.parametrize(
    "taught",
    [
        {"settlement": Settlement.ESTIMATED},
        {"settlement": Settlement.ABORTED},
        {"usage": Usage(0, output_tokens=9)},
        {"usage": Usage(5000, web_searches=1)},
        {"info": replace(CLAUDE, unknown_parts=1)},
        {"info": replace(CLAUDE, input_tokens=700)},
        {"info": replace(CLAUDE, reach=replace(TEXT, media=True))},
        {"info": replace(CLAUDE, reach=replace(TEXT, beside_tokens=Usage(web_searches=3)))},
        {"usage": Usage(5000, input_image_tokens=1000)},
        {"info": replace(CLAUDE, model="claude-" + "x" * 200)},
    ],
    ids=[
        "estimated",
        "aborted",
        "no input",
        "searched",
        "unknown",
        "tokens",
        "media",
        "hosted tools",
        "media in the answer's usage",
        "long name",
    ],
)
async def test_nothing_is_learned_from_inputs_that_say_nothing_of_how_texts_are_estimated(
    worker: Learning, store: RedisCalibration, taught: Mapping[str, object]
) -> None:
    worker.settle(times=100, **taught)  # type: ignore[arg-type]
    await worker.refresh()
    assert await store.read("acme") == {}


async def test_what_was_learned_is_not_applied_to_media_and_hosted_tools(worker: Learning) -> None:
    worker.settle(times=100)
    await worker.refresh()
    assert worker.bound(replace(CLAUDE, unknown_parts=1)) == SHIPPED
    assert worker.bound() < SHIPPED


async def test_another_model_starts_from_what_is_shipped_though_it_is_of_the_same_family(
    worker: Learning,
) -> None:
    """Anthropic's newer tokenizers make more tokens of a text."""
    worker.settle(times=100)
    await worker.refresh()
    newer = "claude-opus-4-8"
    assert worker.bound() < SHIPPED
    assert worker.bound(replace(CLAUDE, model=newer)) == input_bound(1000, newer)


async def test_long_prompts_do_not_answer_for_short_ones(worker: Learning) -> None:
    worker.settle(200, estimate=100, times=60)
    await worker.refresh()
    assert worker.bound(estimate=10_000) > 16_000, "of long ones nothing is known yet"
    worker.settle(10_300, estimate=10_000, times=60)
    await worker.refresh()
    assert 10_300 <= worker.bound(estimate=10_000) < 11_500
    assert worker.bound(estimate=100) > 190


async def test_a_store_that_is_away_leaves_what_was_learned_in_force(
    gov_store: str, store: RedisCalibration
) -> None:
    worker = Learning(store)
    worker.settle(times=100)
    await worker.refresh()
    learned = worker.bound()
    away = connect("redis://127.0.0.1:1")
    worker.calibrator._store = RedisCalibration(away)
    worker.settle(2500, times=100)
    with pytest.raises(StoreUnavailable):
        await worker.refresh()
    assert worker.bound() == learned
    await away.aclose()


async def test_a_histogram_that_somebody_else_wrote_is_begun_anew(
    worker: Learning, store: RedisCalibration, gov_store: str
) -> None:
    worker.settle(times=60)
    await worker.refresh()
    with Redis.from_url(gov_store) as raw:
        [key] = raw.keys("gov:{acme}:ratios:*")
        [field] = raw.hkeys(key)
        assert 0 < raw.pttl(key) <= 30 * 24 * 3_600_000
        raw.hset(key, "acme", "nobody's")
        for nonsense in (b"{", b'{"-1": 5}', b'{"0": -1e9}', b'{"9999": 50}', b"[]"):
            raw.hset(key, field, nonsense)
            worker.settle(times=60)
            await worker.refresh()
            assert (await store.read("acme"))[field.decode()] == b'{"10":60}'


async def test_models_that_clients_invent_are_learned_up_to_a_number(
    worker: Learning, store: RedisCalibration
) -> None:
    for number in range(520):
        worker.settle(info=replace(CLAUDE, model=f"claude-{number}"))
        if number % 100 == 99:
            await worker.refresh()
    await worker.refresh()
    assert len(await store.read("acme")) == 500


async def test_an_idle_workspace_is_forgotten_by_the_worker_and_not_by_the_store(
    store: RedisCalibration,
) -> None:
    now = 0.0
    worker = Learning(store, clock=lambda: now)
    worker.settle(times=100)
    await worker.refresh()
    learned = worker.bound()
    now = 4000.0
    await worker.refresh()
    now = 8000.0
    await worker.refresh()
    assert worker.calibrator._workspaces == {}
    assert worker.bound() == SHIPPED
    await worker.refresh()
    assert worker.bound() == learned


async def test_metrics_show_the_factor_and_the_bounds_that_did_not_hold(worker: Learning) -> None:
    worker.settle(times=99)
    await worker.refresh()
    worker.settle()
    worker.settle(1500)
    worker.settle(9000, info=replace(CLAUDE, unknown_parts=1))
    assert worker.metric("input_bounds_total", size="shown", held="yes") == 100
    assert worker.metric("input_bounds_total", size="shown", held="no") == 1
    assert worker.metric("input_bounds_total", size="unknown", held="no") == 1
    assert worker.metric("input_bound_factor", from_tokens="128") == pytest.approx(1.1, abs=0.02)
