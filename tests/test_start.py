"""What starts imports what it needs, and is ready before all is loaded that only some calls need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from govmiddleware import app
from govmiddleware.app import Governance

_COMMANDS = "import govmiddleware.cli.root"
_SERVER = "import govmiddleware.cli.serve, govmiddleware.cli.server, govmiddleware.cli.http_protocol"
_SQL = {"sqlalchemy.orm", "sqlalchemy.dialects.postgresql"}
_MIDDLEWARES = "from govmiddleware import Authenticate, Budget, Estimate, Journal, Meter, RateLimit"


@pytest.mark.parametrize(
    ("code", "needless"),
    [
        (
            _MIDDLEWARES,
            {"sqlalchemy", "redis", "pydantic", "jinja2", "aiohttp", "httpx", "uvicorn", "tiktoken"},
        ),
        ("from govmiddleware import Caps, Settings", {"sqlalchemy", "redis", "prometheus_client", "jinja2"}),
        (
            "from govmiddleware import Governance, govern",
            {"jinja2", "tiktoken", "toktok", "psycopg", "yaml", *_SQL},
        ),
        (
            _SERVER,
            {"jinja2", "tiktoken", "toktok", "psycopg", "yaml", "httpx", "opentelemetry.exporter", *_SQL},
        ),
        (_COMMANDS, {"sqlalchemy", "redis", "pydantic", "starlette", "uvicorn", "jinja2"}),
    ],
    ids=["middlewares", "settings", "governance", "serve", "commands"],
)
def test_an_import_brings_nothing_that_its_use_does_not_need(code: str, needless: set[str]) -> None:
    asked = f"{code}; import sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert not needless & set(ran.stdout.split())


async def test_ready_is_before_the_vocabulary_is_loaded(
    make_governance: Callable[..., Governance], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def load_late(encoding: str) -> Any:
        begun.set()
        assert may_end.wait(10)

    monkeypatch.setattr(app, "load_encoding", load_late)
    async with make_governance() as governance:
        assert await asyncio.to_thread(begun.wait, 10)
        assert await governance.readiness() == []
        may_end.set()


def test_the_collector_comes_seldom_and_never_looks_at_what_a_start_has_made() -> None:
    code = (
        "import gc; usual = gc.get_threshold()[0];"
        "from govmiddleware.cli.garbage import collect_rarely, collect_while_serving;"
        "collect_rarely(); rarely = gc.get_threshold()[0]; collect_while_serving();"
        "assert usual < gc.get_threshold()[0] < rarely; assert gc.isenabled() and gc.get_freeze_count() > 1000"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
