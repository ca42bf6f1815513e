"""What the commands share: their options, the open governance, and tables."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TextIO, TypeVar

from cyclopts import Parameter

from govmiddleware.app import Governance
from govmiddleware.logs import ConsoleFormatter, JsonFormatter
from govmiddleware.settings import Settings, load

Config = Annotated[Path | None, Parameter(name="--config", help="Configuration file (TOML).")]
Redis = Annotated[str | None, Parameter(name="--redis", help="Store URL, or 'embedded'.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]

Result = TypeVar("Result")

ACTOR = "cli"
"""Who the audit log says it was: whoever may run commands on the store."""


def with_governance(
    work: Callable[[Governance], Awaitable[Result]], config: Path | None, redis: str | None = None
) -> Result:
    """Run `work` on the store of the configuration, embedded store and all.

    Raises ConfigurationError and StoreUnavailable.
    """
    governance = Governance(load(config, redis_url=redis))

    async def run() -> Result:
        async with governance.store():
            return await work(governance)

    return asyncio.run(run())


class _LineHandler(logging.StreamHandler[TextIO]):
    """Leaves the flush out: stderr flushes at the end of each line by itself."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


def log_to_stderr(settings: Settings, *, with_process: bool = False) -> None:
    """For the commands that serve: all that is logged, other libraries' lines and warnings too, in one format.

    Args:
        with_process: whether each line for people says of which process it is.
    """
    is_json = settings.log_format == "json"
    handler = _LineHandler()
    handler.setFormatter(JsonFormatter() if is_json else ConsoleFormatter(with_process=with_process))
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # What libraries say for debugging may hold headers and queries, and so secrets.
    logging.basicConfig(handlers=[handler], level=max(level, logging.INFO), force=True)
    logging.getLogger("govmiddleware").setLevel(level)
    logging.captureWarnings(True)
    # Of a record that is what our formats leave out, and a third of what it takes to make one.
    logging.logThreads = logging.logMultiprocessing = False


def print_json(value: object, file: TextIO | None = None) -> None:
    print(json.dumps(value, indent=2), file=file)


def print_table(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], file: TextIO | None = None
) -> None:
    """Columns as wide as their widest value; numbers to the right."""
    texts = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    heads = [name.upper().ljust(width) for name, width in zip(columns, widths, strict=True)]
    print("  ".join(heads).rstrip(), file=file)
    for row, cells in zip(rows, texts, strict=True):
        aligned = [
            cell.rjust(width) if isinstance(row.get(column), int | float) else cell.ljust(width)
            for column, cell, width in zip(columns, cells, widths, strict=True)
        ]
        print("  ".join(aligned).rstrip(), file=file)


def _text(value: object) -> str:
    return "-" if value is None else str(value)
