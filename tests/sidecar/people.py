"""The people of an override as clients over HTTP, and what the audit log says of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from govmiddleware.core.ids import hash_api_token

ADMIN = "the admin's own"
NOBODY = {"name": "nobody", "scope": "workspace", "meter": "requests", "window": "lifetime", "hard": 0}
"""A limit that lets nothing pass."""

_http = httpx.Client(timeout=20)
"""Making one takes as long as ten requests."""


def token(name: str, role: str = "operator", workspace: str = "acme", **more: str) -> dict[str, str]:
    """A configured API token, whose secret is its name."""
    return {"name": name, "workspace": workspace, "role": role, "sha256": hash_api_token(name), **more}


PEOPLE = [
    token("bob", user="bob"),
    token("bobs-other", "owner", user="bob"),
    token("alice", "admin", user="alice"),
    token("olga", "owner"),
    token("oscar"),
    token("stranger", "owner", workspace="umbrella"),
]


@dataclass(frozen=True, slots=True)
class Client:
    """One person with a connection of their own."""

    secret: str
    url: str

    def ask(self, limit: str = "nobody", **asked: object) -> httpx.Response:
        body = {"amount": 1, "seconds": 600, "reason": "the release", **asked}
        return self.send("POST", f"limits/{limit}/override", json=body)

    def decide(self, override: str, what: str, **body: str) -> httpx.Response:
        return self.send("POST", f"overrides/{override}/{what}", **({"json": body} if body else {}))

    def overrides(self, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.send("GET", "overrides", params=query).json()["overrides"]
        return found

    def call(self) -> int:
        """The status of a request that counts as one."""
        return _http.get(f"{self.url}/v1/models", headers=self.headers).status_code

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return _http.request(method, f"{self.url}/gov/api/v1/{path}", headers=self.headers, **options)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}


def at_once(*work: Any) -> list[Any]:
    """The results of calls that begin together, each in a thread of its own."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [each.result() for each in [pool.submit(one) for one in work]]


def calls_at_once(urls: Sequence[str], secret: str, count: int) -> list[int]:
    """The statuses of so many requests that begin together."""

    async def call_all() -> list[int]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(limits=limits, timeout=30) as http:

            async def call(number: int) -> int:
                url = f"{urls[number % len(urls)]}/v1/models"
                return (await http.get(url, headers={"authorization": f"Bearer {secret}"})).status_code

            return list(await asyncio.gather(*map(call, range(count))))

    return asyncio.run(call_all())


def audit_entries(data_dir: Path) -> list[tuple[str, str, str]]:
    """Of the audit log: actor, action and subject."""
    with sqlite3.connect(data_dir / "journal.sqlite3") as connection:
        rows = connection.execute("SELECT actor, action, subject FROM gov_audit_entry ORDER BY sequence")
        return [(actor, action.removeprefix("override."), subject) for actor, action, subject in rows]
