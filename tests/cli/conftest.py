"""What the tests of the command line share: a deployment of their own, and two ways to run a command."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from tests.cli.serving import Serving

from govmiddleware.app import Governance
from govmiddleware.core import ids
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.settings import load
from govmiddleware.testing import ScriptedProvider

PATIENCE = 20

LIMITS = f"""
[[limits]]
name = "user-month"
scope = "user"
meter = "cost_usd"
window = "month"
hard = 1

[[limits]]
name = "minute"
scope = "api_token"
meter = "requests"
rate = "60/minute"

[[api_tokens]]
name = "static"
workspace = "acme"
sha256 = "{ids.hash_api_token("open sesame")}"
"""
"""A limit of each kind, and an API token."""
NOWHERE = ("--redis", "unix:///nowhere/valkey.sock")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> tuple[int, str, str]:
        return self.code, self.out, self.err


@pytest.fixture(scope="session")
def shared_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its embedded store runs as long as the tests do."""
    data_dir = tmp_path_factory.mktemp("cli")
    with EmbeddedStore(data_dir):
        yield data_dir


@pytest.fixture
def data_dir(shared_data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The data directory of the deployment, its store and journal empty; nothing else of GOV_ is in the environment."""
    with Redis.from_url(EmbeddedStore(shared_data_dir).url) as redis:
        redis.flushall()
    for name in os.environ:
        if name.upper().startswith("GOV_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GOV_DATA_DIR", str(shared_data_dir))
    monkeypatch.setenv("GOV_JOURNAL_URL", f"sqlite:///{tmp_path / 'journal.sqlite3'}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return shared_data_dir


@pytest.fixture
def journal(data_dir: Path, tmp_path: Path) -> Path:
    """The file of the deployment's journal."""
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def store(data_dir: Path) -> Iterator[Redis]:
    """A client of the deployment's store."""
    with Redis.from_url(EmbeddedStore(data_dir).url) as redis:
        yield redis


@pytest.fixture
def command(data_dir: Path) -> Callable[..., Ran]:
    """Runs the real entry point in a process of its own."""

    def run(*arguments: str) -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "govmiddleware", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    return run


@pytest.fixture
def run(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command in this process, which takes milliseconds."""

    def run_here(*arguments: str) -> Ran:
        from govmiddleware.cli.root import run

        capsys.readouterr()
        code = run(arguments)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run_here


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], str]:
    """Writes `./govmiddleware.toml`, which every command reads; returns its path."""

    def write(text: str) -> str:
        file = tmp_path / "govmiddleware.toml"
        file.write_text(text)
        return str(file)

    return write


@pytest.fixture
def serve(data_dir) -> Iterator[Callable[..., Serving]]:
    running: list[Serving] = []

    def start(*arguments: str, first: str = "") -> Serving:
        running.append(Serving(*arguments, first=first))
        return running[-1]

    yield start
    for each in running:
        each.process.terminate()  # not SIGKILL, which leaves its temporary files behind
        each.ended()
        assert each.process.stderr is not None
        each.process.stderr.close()


@pytest.fixture
def upstream(gov_provider) -> str:
    return gov_provider[1]


@pytest.fixture
def provider(gov_provider) -> ScriptedProvider:
    return gov_provider[0]


@pytest.fixture
def traffic(configured: Callable[[str], str]) -> Callable[[], None]:
    """Sends two calls of ann and one of bob through the deployment's stack."""
    configured(LIMITS)

    def send() -> None:
        async def calls() -> None:
            async with Governance(load()) as governance:
                app: Any = governance.stack(ScriptedProvider())
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://gov") as http:
                    for user, model in (("ann", "gpt-4o"), ("ann", "gpt-4o-mini"), ("bob", "gpt-4o")):
                        messages = [{"role": "user", "content": "Say hello."}]
                        answer = await http.post(
                            "/v1/chat/completions",
                            json={"model": model, "messages": messages, "max_tokens": 20},
                            headers={"authorization": "Bearer open sesame", "x-gov-user": user},
                        )
                        assert answer.status_code == 200

        asyncio.run(calls())

    return send
