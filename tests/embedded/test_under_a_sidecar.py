"""The embedded store under a running sidecar."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
from redis import Redis
from tests.sidecar.conftest import SECRET
from tests.sidecar.waiting import until

from govmiddleware.app import Governance
from govmiddleware.core.ids import hash_api_token
from govmiddleware.settings import Settings
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import ScriptedProvider, serve_in_thread

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}


def test_a_killed_store_comes_back_with_its_books(
    tmp_path: Path, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    token = {"name": "ci", "workspace": "acme", "sha256": hash_api_token(SECRET)}
    limit = {"name": "five", "scope": "workspace", "meter": "requests", "window": "lifetime", "hard": 5}
    settings = Settings.model_validate(
        {"upstream": gov_provider[1], "data_dir": tmp_path, "api_tokens": [token], "limits": [limit]}
    )
    with serve_in_thread(Sidecar(Governance(settings))) as sidecar:
        call = _caller(sidecar.url)
        assert [call() for _ in range(3)] == [200, 200, 200]
        with Redis.from_url(f"unix://{tmp_path}/valkey/valkey.sock") as redis:
            redis.waitaof(1, 0, 2000)
            pid = int(redis.info("server")["process_id"])
        os.kill(pid, signal.SIGKILL)
        assert call() == 503
        until(lambda: call() == 200)
        assert call() == 200
        assert call() == 429


def _caller(url: str) -> Callable[[], int]:
    def call() -> int:
        headers = {"authorization": f"Bearer {SECRET}"}
        return httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=headers).status_code

    return call
