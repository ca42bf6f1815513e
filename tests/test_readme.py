"""The README's example, followed to the letter: its files written, its commands run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.sidecar.waiting import until

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str, containing: str) -> str:
    [found] = [
        text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text
    ]
    return str(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(block("python", "govern("))
    (tmp_path / "govmiddleware.toml").write_text(block("toml", "[[limits]]"))
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("GOV_")}
    return given | {"GOV_DATA_DIR": str(folder / "data")}


@pytest.fixture
def url(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _listens(port))
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _run(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "govmiddleware", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_the_readme_example_governs_the_app(folder: Path, environment: dict[str, str], url: str) -> None:
    lines = [line for line in block("python", "govern(").splitlines() if line]
    assert len(lines) <= 10
    token = _run(folder, environment, "token", "create", "laptop").strip()
    body = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'
    assert body in README
    route = f"{url}/v1/chat/completions"
    assert httpx.post(route, content=body).status_code == 401
    headers = {"authorization": f"Bearer {token}", "x-gov-user": "ann"}
    answer = httpx.post(route, content=body, headers=headers)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello to you!"
    assert answer.headers["x-gov-budget-remaining-usd"].startswith("9.9")
    codes = [httpx.post(route, content=body, headers=headers).status_code for _ in range(60)]
    assert codes == [200] * 59 + [429]
    usage = until(lambda: _settled(_run(folder, environment, "usage", "--by", "user")))
    assert re.search(r"ann +60 +1 ", usage)


def _settled(usage: str) -> str | None:
    return usage if re.search(r"ann +60 ", usage) else None
