"""The export for accounting: CSV, a line for each month, workspace, tag, model and version of the prices."""

from __future__ import annotations

import csv
import io
from datetime import datetime

from govmiddleware.core.money import usd_text
from govmiddleware.core.reports import PRICE_VERSION, Sums
from govmiddleware.core.scopes import TAG
from govmiddleware.services.usage import UsageReports

COLUMNS = (
    "month",
    "workspace",
    "tag",
    "model",
    "price_version",
    "requests",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
    "cost_usd",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What spreadsheets may take for the start of a formula (OWASP, "CSV Injection")."""


async def accounting_csv(
    usage: UsageReports,
    *,
    tag: str | None = None,
    timezone: str = "UTC",
    since: datetime | None = None,
    until: datetime | None = None,
) -> str:
    """RFC 4180, with a header. The month is `2026-01`; what is unknown is empty, as is the tag where none is named.

    Args:
        tag: the name of the one whose values have lines of their own.
        timezone: whose months.

    Raises ValueError for a time zone that there is not, StoreUnavailable and HistoryUnavailable.
    """
    by = ("workspace", *([TAG + tag] if tag else ()), "model", PRICE_VERSION)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for month, values, sums in await usage.by_month(by, timezone=timezone, since=since, until=until):
        if sums == Sums(refused=sums.refused, reserved=sums.reserved):
            continue  # nothing was used
        workspace, *tagged, model, price_version = map(_harmless, values)
        writer.writerow([month, workspace, *(tagged or [""]), model, price_version, *_amounts(sums)])
    return text.getvalue()


def _amounts(sums: Sums) -> list[int | str]:
    return [
        sums.requests,
        sums.input_tokens,
        sums.cached_tokens,
        sums.cache_write_tokens,
        sums.output_tokens,
        sums.reasoning_tokens,
        sums.input_tokens + sums.output_tokens,
        usd_text(sums.cost),
    ]


def _harmless(name: str | None) -> str:
    """Names come from clients: one that begins as a formula does is shown as text."""
    name = name or ""
    return f"'{name}" if name.startswith(_FORMULA) else name
