"""What is measured: each gateway, with a store of its own where it has one. All run at once, and one is under load."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import cast

from govmiddleware.core.ids import hash_api_token
from stand.processes import BENCH, Program, connect, free_port, running, wait_for
from stand.stores import Store, store

JSON = {"content-type": "application/json"}
OURS = JSON | {"authorization": "Bearer bench", "x-gov-user": "ann", "x-gov-session": "s1"}
MANY_TAGS = OURS | {"x-gov-tags": ",".join(f"t{number}=search" for number in range(6))}
LITELLMS = JSON | {"authorization": "Bearer sk-bench:rpm=100000000:tpm=100000000000:bud=1000000:mpr=1000"}

TOKEN = f"""
[[api_tokens]]
name = "bench"
workspace = "bench"
sha256 = "{hash_api_token("bench")}"
"""
LIMITS = """
[[limits]]
name = "requests-a-minute"
scope = "api_token"
meter = "requests"
rate = "10000000/minute"

[[limits]]
name = "tokens-a-minute"
scope = "api_token"
meter = "total_tokens"
rate = "100000000000/minute"

[[limits]]
name = "at-once"
scope = "api_token"
meter = "concurrency"
hard = 1000

[[limits]]
name = "user-month"
scope = "user"
meter = "cost_usd"
window = "month"
hard = 1000000

[[limits]]
name = "session-day"
scope = "session"
meter = "cost_usd"
window = "day"
hard = 1000000

[[limits]]
name = "workspace-month"
scope = "workspace"
meter = "cost_usd"
window = "month"
hard = 1000000
"""
"""Six, none of which is ever reached: what is measured is admission, not refusal."""


def limits_on_tags(count: int) -> str:
    """Up to 24, of four kinds in equal parts over six tags, for calls with MANY_TAGS."""
    kinds = [
        'meter = "cost_usd"\nwindow = "month"\nhard = 1000000',
        'meter = "requests"\nrate = "10000000/minute"',
        'meter = "total_tokens"\nrate = "100000000000/minute"',
        'meter = "output_tokens"\nwindow = "day"\nhard = 1000000000000',
    ]
    return "\n".join(
        f'[[limits]]\nname = "limit-{number}"\nscope = "tag:t{number // 4}"\n{kinds[number % 4]}\n'
        for number in range(count)
    )


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers calls.

    Attributes:
        url: its origin.
        headers: of every request to it.
        program: whose CPU and memory are measured.
        store: what it keeps its counters in.
    """

    name: str
    url: str
    program: Program
    headers: Mapping[str, str] = field(default_factory=lambda: OURS)
    store: Store | None = None


@contextmanager
def mock(folder: Path) -> Iterator[Target]:
    port = free_port()
    command = [sys.executable, "-m", "stand.mock_upstream", str(port)]
    with running("mock", command, folder) as program:
        wait_for(program, lambda: connect(port))
        yield Target("mock", f"http://127.0.0.1:{port}", program)


@contextmanager
def under_uvicorn(
    name: str, app: str, folder: Path, environment: Mapping[str, str], *, workers: int = 1
) -> Iterator[Target]:
    """With the server's settings that `govmiddleware serve` has."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port)]
    command += ["--workers", str(workers), "--loop", "uvloop", "--http", "httptools"]
    command += ["--log-level", "warning"]
    command += ["--no-access-log", "--no-server-header", "--no-date-header", "--no-proxy-headers"]
    with running(name, command, folder, environment=environment) as program:
        yield Target(name, f"http://127.0.0.1:{port}", program)


@contextmanager
def proxy(name: str, upstream: Target, folder: Path, *, workers: int = 1) -> Iterator[Target]:
    """One of `stand.passthrough.PROXIES`; `name` may end in `-2w`."""
    environment = {"UPSTREAM": upstream.url, "PROXY": name.removesuffix("-2w")}
    with under_uvicorn(name, "stand.passthrough:create", folder, environment, workers=workers) as target:
        yield target


@contextmanager
def sidecar(
    name: str, upstream: Target, folder: Path, *, limits: str = LIMITS, workers: int = 1
) -> Iterator[Target]:
    """`govmiddleware serve`, its journal in SQLite, its metrics on."""
    port = free_port()
    with store(name, folder) as its_store:
        config = configuration(name, folder, its_store, limits, upstream.url)
        command = [sys.executable, "-m", "govmiddleware", "serve", "--config", str(config)]
        command += ["--port", str(port), "--workers", str(workers)]
        with running(name, command, folder) as program:
            yield Target(name, f"http://127.0.0.1:{port}", program, store=its_store)


@contextmanager
def host_app(name: str, folder: Path) -> Iterator[Target]:
    """`app` alone, or `app-governed` with the middleware inside it."""
    if name == "app":
        with under_uvicorn(name, "stand.host_app:bare", folder, {}) as target:
            yield target
        return
    with store(name, folder) as its_store:
        environment = {"CONFIG": str(configuration(name, folder, its_store, LIMITS, None))}
        with under_uvicorn(name, "stand.host_app:governed", folder, environment) as target:
            yield Target(name, target.url, target.program, store=its_store)


def configuration(name: str, folder: Path, its_store: Store, limits: str, upstream: str | None) -> Path:
    path = folder / f"{name}.toml"
    settings = [f'redis_url = "{its_store.url}"', f'data_dir = "{folder / name}"']
    if upstream:
        settings.append(f'upstream = "{upstream}"')
    path.write_text("\n".join([*settings, TOKEN, limits]))
    return path


@contextmanager
def litellm(command: Path, upstream: Target, folder: Path) -> Iterator[Target]:
    """LiteLLM's proxy with its limits, its budgets and Redis, tuned as `litellm/` says."""
    port, home = free_port(), BENCH / "litellm"
    with store("litellm", folder) as its_store:
        environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "UP_FAST": f"{upstream.url}/v1",
            "UP_SLOW": f"{upstream.url}/v1",
            "REDIS_PORT": str(its_store.port),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_TELEMETRY": "False",
            "NO_DOCS": "True",
        }
        arguments = ["--config", str(home / "litellm_governed.yaml"), "--host", "127.0.0.1"]
        arguments += ["--port", str(port), "--num_workers", "1"]
        with running("litellm", [command, *arguments], folder, environment=environment, cwd=home) as program:
            yield Target("litellm", f"http://127.0.0.1:{port}", program, LITELLMS, its_store)


def send(
    target: Target, path: str, body: bytes, more_headers: Mapping[str, str] | None = None
) -> HTTPResponse:
    """One call, its answer read. Raises RuntimeError unless it is 200: what is refused would look fast."""
    headers = {**target.headers, **(more_headers or {})}
    request = urllib.request.Request(target.url + path, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return cast("HTTPResponse", answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{target.name} answers {error.code}: {error.read()[:500]!r}") from error


def wait_until_ready(target: Target, path: str, body: bytes) -> None:
    """Until a call is answered."""
    wait_for(target.program, lambda: send(target, path, body))
