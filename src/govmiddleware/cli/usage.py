"""`usage`: what was used, from the journal."""

from __future__ import annotations

import csv
import sys
from datetime import datetime
from typing import Annotated, Literal, cast

from cyclopts import Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import AsJson, Config, Redis, print_json, print_table, with_governance
from govmiddleware.core.reports import EXPECTED_DIMENSION, is_dimension
from govmiddleware.core.times import parse_time
from govmiddleware.errors import ConfigurationError

_COLUMNS = [
    "requests",
    "refused",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "cost_usd",
    "reserved_usd",
]
_LIMIT_COLUMNS = ["name", "value", "used", "reserved", "hard", "remaining", "resets_at"]


def usage(
    *,
    by: Annotated[
        str, Parameter(help="model, provider, agent, user, session, api_token, workspace or tag:NAME.")
    ] = "model",
    since: Annotated[str | None, Parameter(help="From here on: a time, a date, or 24h, 7d ago.")] = None,
    until: Annotated[str | None, Parameter(help="Up to here.")] = None,
    format: Annotated[Literal["table", "json", "csv"], Parameter(help="How to print it.")] = "table",
    json: AsJson = False,
    config: Config = None,
    redis: Redis = None,
) -> int:
    """Show what was used."""

    if not is_dimension(by):
        raise ConfigurationError("--by", by, EXPECTED_DIMENSION)
    start, end = _time("--since", since), _time("--until", until)

    async def read(governance: Governance) -> dict[str, object]:
        return await governance.usage.report(by=by, since=start, until=end)

    report = with_governance(read, config, redis)
    groups = cast("list[dict[str, object]]", report["groups"])
    totals = cast("dict[str, object]", report["totals"])
    if json or format == "json":
        print_json(report)
    elif format == "csv":
        writer = csv.DictWriter(sys.stdout, ["id", *totals], lineterminator="\n")
        writer.writeheader()
        writer.writerows(groups)
    else:
        rows = [*({by: group["id"], **group} for group in groups), {by: "TOTAL", **totals}]
        print_table(rows, [by, *_COLUMNS])
        if limits := cast("list[dict[str, object]]", report["limits"]):
            print()
            print_table(limits, _LIMIT_COLUMNS)
    return 0


def _time(option: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise ConfigurationError(option, text, str(error).partition(": write ")[2]) from None
