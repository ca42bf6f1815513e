"""How well input bounds hold, and how close they are, as the calibrator learns: on recorded exchanges.

    uv run python tools/simulate_calibration.py [--draws N] [--coverage C] [--seed S] FILE.jsonl[.gz] ...

Exchanges are read by the stack's own protocols and estimated as in the stack. Counted are those whose usage the provider
reported, without media, hosted tools and references. Then the calibrator itself bounds and learns:

- cold: each exchange once, nothing learned.
- learning, learned: exchanges drawn in random order, with replacement, all into one workspace: those whose model had
  fewer than 50 settled requests before, and the others.
- held out: the same, but one random half of each model's exchanges is learned from, and the bounds of the other half are
  counted; models with fewer than 20 exchanges are left out. Repeated with the halves changed over.

held: the bound is at least the actual input. within: it is at most 1.6 times that and 64 tokens more (cold, learning),
or 1.25 times and 32 (else).
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from govmiddleware.core.body import RequestBody
from govmiddleware.core.calibration import LEAST_OBSERVATIONS
from govmiddleware.core.call import Call, Settlement
from govmiddleware.core.charge import Charge, Outcome
from govmiddleware.core.demand import Demand
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.prices import ConfiguredPrice, PriceBook
from govmiddleware.core.providers import Provider
from govmiddleware.core.refusals import Refusal
from govmiddleware.metrics import Metrics
from govmiddleware.replay.lines import read_exchange, read_lines
from govmiddleware.replay.player import MemoryCalibration, Player, protocol_of
from govmiddleware.services.calibration import Calibrator

LEAST_HELD_OUT = 20
"""Exchanges of a model."""

MERGE_EVERY = 10
"""Requests, as workers merge what they observed every few seconds."""


@dataclass(frozen=True)
class Recorded:
    call: Call
    info: RequestInfo
    charge: Charge

    @property
    def model(self) -> tuple[str, str]:
        return self.call.protocol.name, self.info.model

    @property
    def actual(self) -> int:
        return self.charge.usage.input_tokens

    def bound(self, calibrator: Calibrator) -> int:
        estimate = self.call.estimated_input_tokens
        assert estimate is not None
        tokens = calibrator.bound(self.call, self.info, estimate)
        self.call.demand = Demand(tokens, output=0, fixed_cost=0, output_femto=0)
        return tokens


class Tally:
    """How many bounds held, and were close."""

    def __init__(self, factor: float, slack: int) -> None:
        self.factor, self.slack = factor, slack
        self.counted: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.within: Counter[str] = Counter()
        self.models: set[tuple[str, str]] = set()

    def add(self, recorded: Recorded, bound: int) -> None:
        self.models.add(recorded.model)
        for kind in ("all", recorded.call.protocol.name):
            self.counted[kind] += 1
            self.held[kind] += bound >= recorded.actual
            self.within[kind] += bound <= self.factor * recorded.actual + self.slack

    def tell(self, name: str) -> None:
        print(f"{name}: {len(self.models)} models; within is {self.factor} x and {self.slack} tokens")
        for kind, count in sorted(self.counted.items()):
            print(
                f"  {kind:20} {count:7}  held {self.held[kind] / count:6.2%}  within {self.within[kind] / count:6.1%}"
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--draws", type=int, default=20_000)
    options.add_argument("--coverage", type=float, default=0.99)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    asyncio.run(simulate(given.files, given.draws, given.coverage, random.Random(given.seed)))


async def simulate(files: Iterable[Path], draws: int, coverage: float, chance: random.Random) -> None:
    every = [each for file in files for each in await read(file)]
    cold = Tally(1.6, 64)
    nothing_learned = new_calibrator(coverage)
    for recorded in every:
        cold.add(recorded, recorded.bound(nothing_learned))
    cold.tell("cold")

    learning, learned = Tally(1.6, 64), Tally(1.25, 32)
    await draw(every, every, draws, new_calibrator(coverage), learning, learned, chance)
    learning.tell("learning")
    learned.tell("learned")

    learning, held_out = Tally(1.6, 64), Tally(1.25, 32)
    one, other = halves(every, chance)
    for seen, unseen in ((one, other), (other, one)):
        await draw(seen, unseen, draws // 2, new_calibrator(coverage), learning, held_out, chance)
    held_out.tell("held out")


async def draw(
    seen: Sequence[Recorded],
    measured: Sequence[Recorded],
    draws: int,
    calibrator: Calibrator,
    learning: Tally,
    learned: Tally,
    chance: random.Random,
) -> None:
    """Settle `draws` of `seen` at random, and tally the bounds of as many of `measured`."""
    settled: Counter[tuple[str, str]] = Counter()
    for number in range(draws):
        asked = chance.choice(measured)
        bound = asked.bound(calibrator)
        tally = learned if settled[asked.model] >= LEAST_OBSERVATIONS else learning
        tally.add(asked, bound)
        ended = asked if seen is measured else chance.choice(seen)
        ended.bound(calibrator)
        calibrator.settled(ended.call, ended.charge)
        settled[ended.model] += 1
        if number % MERGE_EVERY == 0:
            await calibrator.refresh()


def halves(every: Iterable[Recorded], chance: random.Random) -> tuple[list[Recorded], list[Recorded]]:
    one, other = [], []
    by_model = defaultdict(list)
    for each in every:
        by_model[each.model].append(each)
    for alike in by_model.values():
        if len(alike) >= LEAST_HELD_OUT:
            chance.shuffle(alike)
            one += alike[::2]
            other += alike[1::2]
    return one, other


def new_calibrator(coverage: float) -> Calibrator:
    return Calibrator(MemoryCalibration(), Metrics(), coverage=coverage)


async def read(file: Path) -> list[Recorded]:
    """Those that count. Any model has a price, so that none is refused for lack of one."""
    player = Player(
        PriceBook((ConfiguredPrice(model="*", input_usd_per_mtok=1, output_usd_per_mtok=1),)),
        [Provider()],
        default_max_output_tokens=4096,
        unknown_size_tokens=2000,
        max_body_bytes=33_554_432,
    )
    found = []
    for _, line in read_lines(file):
        exchange = read_exchange(line)
        try:
            played = await player.play(exchange, datetime.now(UTC))
        except Refusal:
            continue
        call, usage, protocol = played.call, played.usage, protocol_of(exchange)
        if call.shows_its_size and usage and usage.input_tokens and played.settlement is Settlement.EXACT:
            assert protocol is not None
            query = (exchange.query or "").encode()
            info = protocol.read_request(RequestBody(exchange.request_body), path=exchange.path, query=query)
            found.append(Recorded(call, info, Charge(usage, 0, Settlement.EXACT, Outcome.ANSWERED)))
    return found


if __name__ == "__main__":
    main()
