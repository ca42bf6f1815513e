"""`replay`: recorded exchanges through the stack's own parts, a line for each."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import Config
from govmiddleware.core.money import usd_text
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.refusals import Refusal
from govmiddleware.replay.lines import BadLine, Exchange, read_exchange, read_lines
from govmiddleware.replay.player import Played, Player, protocol_of
from govmiddleware.settings import load


def replay(
    file: Annotated[Path, Parameter(help="JSON lines, perhaps compressed with gzip.")],
    /,
    *,
    config: Config = None,
) -> int:
    """Say what recorded exchanges used and cost, and what the limits of a configuration would have decided."""
    settings = load(config)
    prices = PriceBook(tuple(price.configured() for price in settings.prices))
    player = Player(
        prices,
        tuple(upstream.provider() for upstream in settings.all_upstreams),
        default_max_output_tokens=settings.default_max_output_tokens,
        unknown_size_tokens=settings.unknown_size_tokens,
        max_body_bytes=settings.max_body_bytes,
    )
    return asyncio.run(_replay(file, player))


async def _replay(file: Path, player: Player) -> int:
    at = datetime.now(UTC)
    for number, line in read_lines(file):
        try:
            if line is None:
                raise BadLine("line_too_long", "too long")
            exchange = read_exchange(line)
            at = exchange.at or at + timedelta(seconds=1)
            protocol = protocol_of(exchange)
            if protocol is None:
                out = {"id": exchange.id, "error": {"code":"route_not_metered"}}
            else:
                played = await player.play(exchange, protocol, at)
                out = _line(exchange, played)
        except BadLine as error:
            out = {"line": number, "error": {"code": error.code, "message": str(error)}}
        except Refusal as error:
            out = {"line": number, "error": {"code": error.code, "message": str(error)}}
        sys.stdout.write(msgspec.json.encode(out).decode() + "\n")
    return 0

def _line(exchange: Exchange, played: Played):
    call = played.call
    bound = call.bound
    u = played.usage
    return {"id": exchange.id, "protocol": call.protocol.name, "model": call.model, "estimate": {"input_tokens": call.estimated_input_tokens},
      "bound": bound and {"input_tokens": bound.input_tokens, "output_tokens": bound.output_tokens, "cost_usd": usd_text(bound.cost)},
      "usage": u and {n: getattr(u, n) for n in ("input_tokens","cached_tokens","cache_write_tokens","output_tokens","reasoning_tokens")},
      "settlement": played.settlement, "cost_usd": None if played.cost is None else usd_text(played.cost), "decisions": [],
      "error": played.refusal and {"code": played.refusal.code, "message": str(played.refusal)}}
