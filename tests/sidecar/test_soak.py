"""Load for a while: memory stays flat, nothing leaks, nothing is thrown.

`GOV_SOAK_SECONDS` says how long each kind of load lasts (default: 15; releases are soaked for 60 and more).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import pytest
from tests.sidecar.books import Books
from tests.sidecar.conftest import SECRET
from tests.sidecar.processes import SidecarProcess, serve_processes
from tests.sidecar.test_store_trouble import configured
from tests.sidecar.waiting import until

from govmiddleware.testing import Script, ScriptedProvider

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SECONDS = float(os.environ.get("GOV_SOAK_SECONDS", "15"))
WARM_UP = 12.0
"""The settlements of the last ten seconds are kept, by design (services/settlement_watch.py)."""
CLIENTS = 16
GROWTH_BYTES = 6 << 20
"""What an allocator may keep to itself; a leak of a kilobyte a request would be more in a few seconds."""

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 99}
STREAM = BODY | {"stream": True}
AUTHORIZATION = {"authorization": f"Bearer {SECRET}"}
WRK = """
wrk.method = "POST"
wrk.body = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 99}'
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
"""

Load = Callable[[str, float], None]
"""Against the sidecar at a URL, for so many seconds."""


def wrk(url: str, seconds: float) -> None:
    """JSON calls on connections that are kept."""
    if shutil.which("wrk") is None:
        pytest.skip("needs wrk: apt-get install wrk")
    script = Path(os.environ["PYTEST_TMP"]) / "post.lua"
    script.write_text(WRK % SECRET)
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds:.0f}s", "--timeout", "5s", "-s", str(script)]
    ran = subprocess.run([*command, f"{url}/v1/chat/completions"], capture_output=True, text=True, check=True)
    assert "Non-2xx" not in ran.stdout, ran.stdout
    assert "Socket errors" not in ran.stdout, ran.stdout


async def _read_whole(response: aiohttp.ClientResponse) -> None:
    assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def _read_and_leave(response: aiohttp.ClientResponse) -> None:
    await response.content.readany()
    response.close()


def _streams(read: Callable[[aiohttp.ClientResponse], Awaitable[None]]) -> Load:
    async def client(session: aiohttp.ClientSession, url: str, deadline: float) -> None:
        while time.monotonic() < deadline:
            async with session.post(f"{url}/v1/chat/completions", json=STREAM) as response:
                assert response.status == 200
                await read(response)

    async def drive(url: str, seconds: float) -> None:
        async with aiohttp.ClientSession(headers=AUTHORIZATION) as session, asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(client(session, url, time.monotonic() + seconds))

    return lambda url, seconds: asyncio.run(drive(url, seconds))


LOADS = {"wrk": wrk, "streams": _streams(_read_whole), "aborted-streams": _streams(_read_and_leave)}


@dataclass(frozen=True, slots=True)
class Soaked:
    """A sidecar under a debugger's eye: asyncio and warnings speak up in its log."""

    sidecar: SidecarProcess
    books: Books

    @property
    def _proc(self) -> Path:
        return Path("/proc", str(self.sidecar.process.pid))

    def memory(self) -> int:
        """Resident, in bytes."""
        return int((self._proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def sockets(self) -> int:
        """Open ones that lead to somebody: to clients, to the upstream and to the store."""
        links = [os.readlink(fd) for fd in (self._proc / "fd").iterdir() if fd.exists()]
        return sum(link.startswith("socket:") for link in links)

    def gauge(self, name: str) -> float:
        lines = httpx.get(f"{self.sidecar.url}/gov/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"govmiddleware_{name}"))


@pytest.fixture
def soaked(
    tmp_path: Path,
    gov_store: str,
    gov_provider: tuple[ScriptedProvider, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Soaked]:
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "default::ResourceWarning")
    with serve_processes(configured(tmp_path, gov_store, gov_provider[1])) as [sidecar]:
        yield Soaked(sidecar, Books(gov_store))


@pytest.mark.parametrize("load", LOADS)
def test_under_load_memory_stays_flat_and_nothing_is_left_over(
    load: str, soaked: Soaked, gov_provider: tuple[ScriptedProvider, str]
) -> None:
    provider, _ = gov_provider
    provider.script = Script(pieces=20, interval=0.005 if load == "aborted-streams" else 0)
    run, url = LOADS[load], soaked.sidecar.url
    run(url, WARM_UP)
    until(lambda: soaked.gauge("open_reservations") == 0)
    warm = soaked.memory()
    run(url, SECONDS)
    until(lambda: soaked.gauge("open_reservations") == 0)

    assert soaked.memory() - warm < GROWTH_BYTES
    assert soaked.gauge("unsent_writes") == 0
    assert soaked.books.open_reservations() == 0
    dispatched = len(provider.exchanges)
    assert len(soaked.books.records()) == dispatched > 0
    assert soaked.gauge("settlements_total") == dispatched
    findings = soaked.books.audit()
    assert findings.ok, findings.shown()
    log = soaked.sidecar.log.read_text()
    for bad in ("Traceback", " ERROR ", "never retrieved", "was destroyed", "ResourceWarning"):
        assert bad not in log
    # The clients are gone: what is left leads to the store (at most 64) and, kept alive, to the upstream.
    until(lambda: soaked.sockets() <= 64 + CLIENTS + 8)
