"""How often a call goes to the store before its first byte goes upstream, and how often after, as MONITOR sees it."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass

from stand.targets import Target, send

CALLS = 20
PAUSE_SECONDS = 0.05
"""After each call, for what it still sends."""
ROUTINE = {"PING", "INFO", "HELLO", "CLIENT", "MONITOR"}


@dataclass(frozen=True, slots=True)
class Trips:
    """Commands to the store in the median call, those of scripts not counted."""

    before: float
    after: float


def count(target: Target, path: str, body: bytes) -> Trips:
    """Calls one after the other; the mock says when it had each, and answers half a pause later."""
    assert target.store is not None
    calls: list[tuple[float, float, float]] = []
    commands: list[float] = []
    with target.store.client() as client, client.monitor() as monitor:

        def watch() -> None:
            for seen in monitor.listen():
                if seen["command"] == "ECHO done":
                    return
                if seen["client_type"] != "lua" and seen["command"].split()[0] not in ROUTINE:
                    commands.append(seen["time"])

        watcher = threading.Thread(target=watch)
        watcher.start()
        delay = {"x-mock-delay-ms": str(int(PAUSE_SECONDS * 500))}
        for _ in range(CALLS):
            began = time.time()
            answer = send(target, path, body, delay)
            time.sleep(PAUSE_SECONDS)
            calls.append((began, int(answer.headers["x-mock-received"]) / 1e6, time.time()))
        with target.store.client() as other:
            other.echo("done")
        watcher.join()

    def within(begin: float, end: float) -> int:
        return sum(begin <= at < end for at in commands)

    return Trips(
        before=statistics.median(within(began, received) for began, received, _ in calls),
        after=statistics.median(within(received, ended) for _, received, ended in calls),
    )
