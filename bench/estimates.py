"""What estimating a large prompt costs, and how long it holds the event loop: `python bench/estimates.py`.

Sends requests of a megabyte of prompt, in one message and in 28,000, and an agent's whole conversation turn by turn, through
Estimate and Meter, with the fast counter (the extra `fast`) and with tiktoken. A task ticks beside it on the same
loop: the longest hold is the longest that it came late. The machine's own share of that is measured too, on an idle
loop. Prints a table, and writes it to `bench/results/estimates.json`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from govmiddleware.core import fast_counter, tokens
from govmiddleware.core.call import Call
from govmiddleware.core.prices import PriceBook
from govmiddleware.middleware import Estimate, Meter
from govmiddleware.protocols.registry import recognise
from govmiddleware.services.counting import TokenCounter

PATH = "/v1/chat/completions"
ROUNDS = 9
TICK = 0.0005
BARS = {"hold_ms": 5.0, "estimate_ms": 30.0}
"""Of the median round, with the fast counter."""

PROSE = (
    "The quick brown fox jumps over the lazy dog, while def main(args: list[str]) -> int: returns 0 and nobody, not even"
    " the Größenwahn of 1,234,567 others, knows why. "
)
CORPUS = "".join(f"{number}. {PROSE}" for number in range(1_000_000 // len(PROSE) + 1))[:1_000_000]


def chat(contents: list[str]) -> bytes:
    messages = [
        {"role": "assistant" if number % 2 else "user", "content": content}
        for number, content in enumerate(contents)
    ]
    return json.dumps({"model": "gpt-4o", "messages": messages}).encode()


def prompts() -> dict[str, bytes]:
    step = len(CORPUS) // 28_000
    return {
        "1 MB in one message": chat([CORPUS]),
        "1 MB in 28,000 messages": chat([CORPUS[n * step : (n + 1) * step] for n in range(28_000)]),
    }


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """The app inside: takes the request as it would be sent on."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


class Ticker:
    """Wakes all the time on the loop, and knows how late it came at worst."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Ticker:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(5 * TICK)
        self.longest = 0.0
        return self

    async def __aexit__(self, *raised: object) -> None:
        await asyncio.sleep(2 * TICK)
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self.longest = max(self.longest, time.perf_counter() - before - TICK)


async def estimate(app: Estimate, raw: bytes) -> None:
    """One request through the middleware."""
    protocol = recognise("POST", PATH)
    assert protocol is not None
    call = Call(request_id="bench", protocol=protocol, method="POST", path=PATH, model_call=True)
    pieces = [raw[start : start + 65_536] for start in range(0, len(raw), 65_536)]

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        """Nobody listens."""

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "headers": [],
        "query_string": b"",
        "state": {"gov": call},
    }
    await app(scope, receive, send)
    assert call.estimated_input_tokens


async def measured(raw: bytes, *, again: bool = False) -> dict[str, float]:
    """Medians over rounds, in ms; each with a memory of its own, or with one that has seen it before."""
    took, held = [], []
    app = Estimate(Meter(upstream), prices=PriceBook())
    await estimate(app, raw)
    for _ in range(ROUNDS):
        if not again:
            app.counter = TokenCounter()
        async with Ticker() as ticker:
            begun = time.perf_counter()
            await estimate(app, raw)
            took.append(time.perf_counter() - begun)
        held.append(ticker.longest)
    return {
        "estimate_ms": round(statistics.median(took) * 1e3, 1),
        "best_ms": round(min(took) * 1e3, 1),
        "hold_ms": round(statistics.median(held) * 1e3, 2),
        "worst_hold_ms": round(max(held) * 1e3, 2),
    }


async def idle() -> float:
    """How late the ticker comes where nothing else runs."""
    async with Ticker() as ticker:
        await asyncio.sleep(1)
    return round(ticker.longest * 1e3, 2)


async def conversation() -> dict[str, float]:
    """An agent of 60 turns of 4 kB each, that sends everything again: ms for all of them."""
    turns = [CORPUS[n * 4_000 : (n + 1) * 4_000] for n in range(60)]
    spent = {}
    for name, remembers in (("remembered", True), ("counted anew", False)):
        app = Estimate(Meter(upstream), prices=PriceBook())
        begun = time.perf_counter()
        for length in range(1, 61):
            if not remembers:
                app.counter = TokenCounter()
            await estimate(app, chat(turns[:length]))
        spent[name] = round((time.perf_counter() - begun) * 1e3, 1)
    return spent


async def main() -> None:
    results: dict[str, Any] = {"python": sys.version.split()[0], "idle_hold_ms": await idle()}
    for counter in ("fast", "tiktoken"):
        if counter == "fast" and not fast_counter.is_installed:
            print("The extra `fast` is not installed.")
            continue
        fast_counter.is_installed = counter == "fast"
        tokens._counters.clear()
        for name, raw in prompts().items():
            results[f"{counter}: {name}"] = await measured(raw)
            results[f"{counter}: {name}, again"] = await measured(raw, again=True)
        results[f"{counter}: a conversation of 60 turns"] = await conversation()
    for name, figures in results.items():
        print(f"{name:45} {figures}")
    fast = {name: row for name, row in results.items() if name.startswith("fast: 1 MB")}
    for name, row in fast.items():
        missed = [bar for bar, most in BARS.items() if row[bar] > most]
        print(f"{name:45} {'misses ' + ', '.join(missed) if missed else 'ok'}")
    out = Path(__file__).parent / "results" / "estimates.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
