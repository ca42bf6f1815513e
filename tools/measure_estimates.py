"""How close estimates are to what providers report, and how well the bound holds, on recorded exchanges.

    uv run python tools/measure_estimates.py [--misses] FILE.jsonl[.gz] ...

Exchanges go through the stack's own parts, as `govmiddleware replay` plays them. Counted are those with usage,
and without media, hosted tools and references to what is kept at the provider, by the class of their host; each
class as a whole, in the halves of even and odd position, and the worst of 100 random halves.

- close: the estimate is within 10 % or 12 tokens of the provider's input figure, whichever is more.
- held: the bound is at least that figure. tight: it is at most 1.6 times the figure and 64 tokens more.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from govmiddleware.core.body import RequestBody
from govmiddleware.core.prices import ConfiguredPrice, PriceBook
from govmiddleware.core.providers import Provider
from govmiddleware.core.refusals import Refusal
from govmiddleware.replay.lines import Exchange, read_exchange, read_lines
from govmiddleware.replay.player import Player, protocol_of

CLASSES = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "googleapis.com": "gemini",
    "amazonaws.com": "bedrock",
}
RANDOM_HALVES = 100
MEDIA = re.compile(
    rb'"(?:inline_?data|file_?data|image_url|input_audio|input_image|input_file|file_id|file_url|document_url|video_url|bytes|s3Location)"\s*:'
    rb'|"type"\s*:\s*"(?:base64|url|image|document|file)"',
    re.IGNORECASE,
)
"""Members and parts that are no text. A document that is text counts as a medium here."""


@dataclass(frozen=True)
class Measured:
    exchange: Exchange
    model: str
    kind: str
    estimate: int
    bound: int
    actual: int

    @property
    def close(self) -> bool:
        return abs(self.estimate - self.actual) <= max(12, self.actual / 10)

    @property
    def held(self) -> bool:
        return self.bound >= self.actual

    @property
    def tight(self) -> bool:
        return self.bound <= 1.6 * self.actual + 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--misses", action="store_true", help="list what is not close, held or tight")
    given = options.parse_args()
    by_class: defaultdict[str, list[Measured]] = defaultdict(list)
    for path in given.files:
        for each in asyncio.run(measure(path)):
            by_class[each.kind].append(each)
    by_class["all"] = [each for measured in by_class.values() for each in measured]
    print(f"{'':30} {'n':>4} {'close':>7} {'even':>6} {'odd':>6} {'worst':>6}   {'held':>6} {'even':>6} "
          f"{'odd':>6}   {'tight':>6} {'even':>6} {'odd':>6}")  # fmt: skip
    for kind, measured in sorted(by_class.items()):
        tell(kind, measured)
    if given.misses:
        for each in sorted(by_class["all"], key=lambda each: (each.kind, each.model)):
            failed = [name for name in ("close", "held", "tight") if not getattr(each, name)]
            if failed:
                print(f"{each.exchange.id} {each.kind:22} {each.model:40} estimate {each.estimate:6} "
                      f"bound {each.bound:6} actual {each.actual:6} not {', '.join(failed)}")  # fmt: skip


async def measure(path: Path) -> list[Measured]:
    """All exchanges of a file that count. Any model has a price, so that none is refused for lack of one; each has a
    player of its own, so that no bound has learned from others."""
    prices = PriceBook((ConfiguredPrice(model="*", input_usd_per_mtok=1, output_usd_per_mtok=1),))
    measured = []
    for _, line in read_lines(path):
        player = Player(
            prices,
            [Provider()],
            default_max_output_tokens=4096,
            unknown_size_tokens=2000,
            max_body_bytes=33_554_432,
            batches="refuse",
        )
        exchange = read_exchange(line)
        try:
            played = await player.play(exchange, datetime.now(UTC))
        except Refusal:
            continue
        call = played.call
        if (
            played.usage is None
            or played.settlement != "exact"
            or not played.usage.input_tokens
            or call.bound is None
            or call.estimated_input_tokens is None
            or is_no_text(exchange)
        ):
            continue
        kind = class_of(exchange, call.protocol.name)
        measured.append(
            Measured(
                exchange,
                call.model or "",
                kind,
                call.estimated_input_tokens,
                call.bound.input_tokens,
                played.usage.input_tokens,
            )
        )
    return measured


def is_no_text(exchange: Exchange) -> bool:
    """Whether a request has media, hosted tools or references: parts whose size it does not show."""
    protocol = protocol_of(exchange)
    assert protocol is not None
    body = RequestBody(exchange.request_body)
    info = protocol.read_request(body, path=exchange.path, query=(exchange.query or "").encode())
    return info.unknown_parts > 0 or MEDIA.search(exchange.request_body) is not None


def class_of(exchange: Exchange, protocol: str) -> str:
    host = exchange.host or ""
    known = next((name for domain, name in CLASSES.items() if host.endswith(domain)), None)
    if known == "gemini" and not protocol.startswith("gemini"):
        known = None
    if known == "openai":
        return f"api.openai.com {protocol.removeprefix('openai.')}"
    return known or f"others {protocol.removeprefix('openai.')}"


def tell(kind: str, measured: Sequence[Measured]) -> None:
    def shares(test: Callable[[Measured], bool]) -> Iterator[float]:
        passed = [test(each) for each in measured]
        yield share(passed)
        yield share(passed[0::2])
        yield share(passed[1::2])

    rng = random.Random(0)
    half = (len(measured) + 1) // 2
    worst = min(
        share([each.close for each in rng.sample(list(measured), half)]) for _ in range(RANDOM_HALVES)
    )
    close = " ".join(f"{each:6.1%}" for each in (*shares(lambda each: each.close), worst))
    held = " ".join(f"{each:6.1%}" for each in shares(lambda each: each.held))
    tight = " ".join(f"{each:6.1%}" for each in shares(lambda each: each.tight))
    print(f"{kind:30} {len(measured):4}  {close}   {held}   {tight}")


def share(passed: Sequence[bool]) -> float:
    return sum(passed) / len(passed) if passed else 0.0


if __name__ == "__main__":
    main()
