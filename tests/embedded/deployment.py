"""A sidecar on an embedded store of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
from tests.sidecar.conftest import SECRET
from tests.sidecar.processes import govmiddleware

from govmiddleware.app import Governance
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.services.audit import audit
from govmiddleware.settings import Settings

Answer = TypeVar("Answer")

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}


class Deployment:
    """A sidecar with an embedded store of its own: what its callers and its operator can ask."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url = url
        self.data_dir = data_dir
        self.store_url = EmbeddedStore(data_dir).url

    def request(self, **more: object) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {SECRET}"}
        return {"url": f"{self.url}/v1/chat/completions", "json": BODY | more, "headers": headers}

    def call(self) -> httpx.Response:
        return httpx.post(**self.request())

    def statuses(self, count: int) -> list[int]:
        return [self.call().status_code for _ in range(count)]

    def readiness(self) -> tuple[int, str]:
        answer = httpx.get(f"{self.url}/gov/readyz")
        return answer.status_code, answer.text

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/gov/metrics").text

    def doctor(self) -> tuple[int, str]:
        environment = os.environ | {"GOV_DATA_DIR": str(self.data_dir)}
        ran = subprocess.run(
            govmiddleware("doctor"), capture_output=True, text=True, env=environment, check=False
        )
        return ran.returncode, ran.stdout

    def books_are_clean(self) -> bool:
        return self._ask(lambda governance: audit(governance.journal, governance.history)).ok

    def requests_counted(self) -> int:
        """In the usage report."""
        report: Any = self._ask(lambda governance: governance.usage.report(workspaces=["acme"]))
        return int(report["totals"]["requests"])

    def _ask(self, question: Callable[[Governance], Coroutine[Any, Any, Answer]]) -> Answer:
        async def ask() -> Answer:
            async with Governance(Settings(data_dir=self.data_dir)).store() as governance:
                return await question(governance)

        return asyncio.run(ask())
