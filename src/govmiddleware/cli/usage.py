"""`usage`: what was used, as a table, in time, and as the export for accounting."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import AsJson, Config, Redis, print_json, print_table, with_governance
from govmiddleware.core.local_time import is_timezone
from govmiddleware.core.reports import EXPECTED_DIMENSION, is_dimension
from govmiddleware.core.slices import Unit
from govmiddleware.core.times import parse_time
from govmiddleware.errors import ConfigurationError
from govmiddleware.services.accounting import accounting_csv

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
        str | None,
        Parameter(
            help="model (the default), provider, agent, user, session, api_token, workspace or tag:NAME."
        ),
    ] = None,
    since: Annotated[str | None, Parameter(help="From here on: a time, a date, or 24h, 7d ago.")] = None,
    until: Annotated[str | None, Parameter(help="Up to here.")] = None,
    format: Annotated[
        Literal["table", "json", "csv"],
        Parameter(help="csv: for accounting, by month, workspace, tag, model and version of the prices."),
    ] = "table",
    timeline: Annotated[
        Literal["minute", "hour", "day", "month"] | None, Parameter(help="In buckets of so long.")
    ] = None,
    timezone: Annotated[
        str | None, Parameter(help="Whose days and months: of --timeline and csv. Default: UTC.")
    ] = None,
    tag: Annotated[str | None, Parameter(help="The tag that csv has lines for.")] = None,
    json: AsJson = False,
    config: Config = None,
    redis: Redis = None,
) -> int:
    """Show what was used."""
    shown_as = "json" if json else format
    if by is not None and not is_dimension(by):
        raise ConfigurationError("--by", by, EXPECTED_DIMENSION)
    if shown_as == "csv" and (by or timeline):
        raise ConfigurationError("--format", "csv", "neither --by nor --timeline: it is by month and more")
    if tag is not None and shown_as != "csv":
        raise ConfigurationError("--tag", tag, "--format csv; for others there is --by tag:NAME")
    if timezone is not None and not (timeline or shown_as == "csv"):
        raise ConfigurationError("--timezone", timezone, "--timeline, or --format csv")
    if not is_timezone(timezone or "UTC"):
        raise ConfigurationError("--timezone", timezone, "an IANA time zone, such as Europe/Berlin, or UTC")
    span: dict[str, Any] = {"since": _time("--since", since), "until": _time("--until", until)}
    zoned = {**span, "timezone": timezone or "UTC"}

    async def read(governance: Governance) -> Any:
        reports = governance.usage
        if shown_as == "csv":
            return await accounting_csv(reports, tag=tag, **zoned)
        if timeline:
            return await reports.timeline(bucket=Unit(timeline), by=by, **zoned)
        return await reports.report(by=by or "model", **span)

    try:
        found = with_governance(read, config, redis)
    except ValueError as error:
        expected = str(error).removeprefix("expected ")
        raise ConfigurationError("--timeline", timeline, expected) from error
    if shown_as == "csv":
        sys.stdout.write(found)
    elif shown_as == "json":
        print_json(found)
    elif timeline:
        _print_timeline(found)
    else:
        _print_report(found)
    return 0


def _print_report(report: Mapping[str, Any]) -> None:
    by = report["by"]
    rows = [*({by: group["id"], **group} for group in report["groups"]), {by: "TOTAL", **report["totals"]}]
    print_table(rows, [by, *_COLUMNS])
    if limits := report["limits"]:
        print()
        print_table(limits, _LIMIT_COLUMNS)


def _print_timeline(timeline: Mapping[str, Any]) -> None:
    by = timeline["by"]
    rows = []
    for bucket in timeline["buckets"]:
        groups = [{by: group["id"], **group} for group in bucket["groups"]] if by else [bucket["totals"]]
        rows += [{"start": bucket["start"], **group} for group in groups]
    print_table(rows, ["start", *([by] if by else []), *_COLUMNS])


def _time(option: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise ConfigurationError(option, text, str(error).partition(": write ")[2]) from None
