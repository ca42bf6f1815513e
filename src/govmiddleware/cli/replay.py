"""`replay`: recorded exchanges through the stack's own parts, a line for each, and a summary."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, cast

import msgspec
from cyclopts import Parameter

from govmiddleware.cli.common import AsJson, Config, print_json, print_table
from govmiddleware.core.money import usd_text
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.refusals import Evaluation, Refusal
from govmiddleware.core.times import rfc3339
from govmiddleware.errors import StoreUnavailable
from govmiddleware.replay.lines import BadLine, Exchange, read_exchange, read_lines
from govmiddleware.replay.player import Played, Player
from govmiddleware.replay.summary import Summary
from govmiddleware.replay.trial import Trial
from govmiddleware.services.records import amount_shown
from govmiddleware.settings import Settings, load

logger = logging.getLogger("govmiddleware.replay")

_SECOND = timedelta(seconds=1)
_USAGE = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_NOTHING = dict.fromkeys(
    ("id", "protocol", "model", "estimate", "bound", "usage", "settlement", "cost_usd"), None
) | {"decisions": []}
_BLOCKED = ("limit", "value", "mode", "calls", "recorded_usd", "first_at", "last_at")


def replay(
    file: Annotated[Path, Parameter(help="JSON lines, perhaps compressed with gzip.")],
    /,
    *,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Say what recorded exchanges used and cost, and what the limits of a configuration would have decided.

    A line of JSON for each on stdout, a summary on stderr (with --json as JSON).
    """
    try:
        summary = asyncio.run(_replay(file, load(config)))
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if json:
        print_json(summary.as_json(), sys.stderr)
    else:
        _tell(summary)
    return 0


async def _replay(file: Path, settings: Settings) -> Summary:
    summary = Summary()
    player = Player(
        PriceBook(tuple(price.configured() for price in settings.prices)),
        tuple(upstream.provider() for upstream in settings.all_upstreams),
        default_max_output_tokens=settings.default_max_output_tokens,
        unknown_size_tokens=settings.unknown_size_tokens,
        max_body_bytes=settings.max_body_bytes,
        batches=settings.batches,
        bound_coverage=settings.bound_coverage,
    )
    at = datetime.now(UTC) - _SECOND
    async with AsyncExitStack() as stack:
        trial = await stack.enter_async_context(Trial.open(settings)) if settings.limits else None
        for number, line in read_lines(file):
            try:
                exchange = read_exchange(line)
            except BadLine as error:
                summary.bad_lines += 1
                answer: dict[str, object] = {"line": number, "error": _error(error.code, error)}
            else:
                at = exchange.at or at + _SECOND
                answer = await _answer(exchange, at, player, trial, summary)
            print(msgspec.json.encode(answer).decode())
    sys.stdout.flush()
    return summary


async def _answer(
    exchange: Exchange, at: datetime, player: Player, trial: Trial | None, summary: Summary
) -> dict[str, object]:
    """The line of one exchange."""
    try:
        played = await player.play(exchange, at)
        verdict = None if trial is None else await trial.ask(played, at)
    except StoreUnavailable:
        raise
    except Exception as error:  # one line must not end the replay of all others
        summary.not_read += 1
        if isinstance(error, Refusal):
            reason = _error(error.code, error)
        else:
            logger.exception("exchange %s cannot be played", exchange.id)
            reason = _error("internal_error", error)
        head = {"id": exchange.id, "protocol": exchange.protocol}
        return {**_NOTHING, **head, "error": reason, "at": rfc3339(at)}
    summary.add(played, at, verdict)
    refusal = played.refusal or (verdict and verdict.refusal)
    return {
        "id": exchange.id,
        "protocol": played.call.protocol.name,
        "model": played.call.model,
        **_figures(played),
        "decisions": [_decision(each) for each in (verdict.evaluations if verdict else ())],
        "error": _error(refusal.code, refusal) if refusal else None,
        "at": rfc3339(at),
    }


def _figures(played: Played) -> dict[str, object]:
    call, usage, bound = played.call, played.usage, played.call.bound
    estimate = call.estimated_input_tokens
    return {
        "estimate": None if estimate is None else {"input_tokens": estimate},
        "bound": bound
        and {
            "input_tokens": bound.input_tokens,
            "output_tokens": bound.output_tokens,
            "cost_usd": usd_text(bound.cost),
        },
        "usage": usage and {name: getattr(usage, name) for name in _USAGE},
        "settlement": played.settlement,
        "cost_usd": None if played.cost is None else usd_text(played.cost),
    }


def _decision(evaluation: Evaluation) -> dict[str, object]:
    limit = evaluation.limit
    return {
        "limit": limit.name,
        "value": evaluation.value,
        "projected": amount_shown(limit.meter, evaluation.projected),
        "soft": None if limit.soft is None else amount_shown(limit.meter, limit.soft),
        "hard": amount_shown(limit.meter, limit.hard),
        "decision": evaluation.decision,
        "mode": limit.mode,
    }


def _error(code: str, error: Exception) -> dict[str, str]:
    return {"code": code, "message": str(error)}


def _tell(summary: Summary) -> None:
    """The summary, for people."""
    told = summary.as_json()
    span = "" if summary.first is None else ", {first_at} to {last_at}".format(**told)
    lines = [
        f"{summary.exchanges} exchanges{span}",
        "cost as recorded: {recorded_usd} USD; spent under these limits: {spent_usd} USD".format(**told),
        "refused: {refused}, cut short: {cut}; limits in dry_run would refuse: {would_refuse}".format(**told),
    ]
    for count, what in (
        (summary.unpriced, "have usage and no price"),
        (summary.not_taken, "are refused whatever the limits"),
        (summary.not_read, "were read by no protocol"),
        (summary.bad_lines, "lines are no exchange"),
    ):
        if count:
            lines.append(f"{count} {what}")
    print(*lines, sep="\n", file=sys.stderr)
    if blocked := told["blocked"]:
        print(file=sys.stderr)
        print_table(cast("list[dict[str, object]]", blocked), _BLOCKED, sys.stderr)
