"""The real commands on an embedded store: Ctrl-C in a terminal, and `kill -9`."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.embedded.terminal import Terminal
from tests.embedded.users import processes, server_pid, servers, stays, sync, watchdogs, within
from tests.sidecar.conftest import SECRET
from tests.sidecar.processes import serve_processes
from tests.sidecar.waiting import until

from govmiddleware.core.ids import hash_api_token
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.testing import ScriptedProvider

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, **environment: str | Path) -> Terminal:
        opened.append(Terminal(*arguments, **environment))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def config(data_dir: Path, gov_provider: tuple[ScriptedProvider, str]) -> Path:
    """Five calls ever."""
    path = data_dir / "govmiddleware.toml"
    path.write_text(
        f"""
        upstream = "{gov_provider[1]}"
        data_dir = "{data_dir}"
        [[api_tokens]]
        name = "ci"
        workspace = "acme"
        sha256 = "{hash_api_token(SECRET)}"
        [[limits]]
        name = "five"
        scope = "workspace"
        meter = "requests"
        window = "lifetime"
        hard = 5
        """
    )
    return path


def call(url: str) -> int:
    headers = {"authorization": f"Bearer {SECRET}"}
    return httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=headers).status_code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_ctrl_c_on_serve_ends_it_cleanly_and_the_store_with_its_last_user(
    terminal: Callable[..., Terminal], config: Path, data_dir: Path
) -> None:
    first = terminal("serve", "--config", str(config), "--port", str(free_port()))
    first.until("serving on")
    second = terminal("serve", "--config", str(config), "--port", str(port := free_port()))
    second.until("serving on")
    url = EmbeddedStore(data_dir).url
    server = server_pid(url)
    first.press_ctrl_c()
    assert first.ended() in (0, 130)
    assert stays(server, url)
    assert call(f"http://127.0.0.1:{port}") == 200
    second.press_ctrl_c()
    assert second.ended() in (0, 130)
    within(5, lambda: not servers(data_dir) and not watchdogs(data_dir))
    assert "Traceback" not in first.said + second.said


@pytest.mark.parametrize("moment", ["Some traffic", "What the journal says", "end it with Ctrl-C"])
def test_ctrl_c_on_the_demo_ends_it_cleanly_and_its_store(
    terminal: Callable[..., Terminal], tmp_path: Path, moment: str
) -> None:
    demo = terminal("demo", "--stay", TMPDIR=tmp_path)
    demo.until(moment)
    demo.press_ctrl_c()
    assert demo.ended() in (0, 130)
    assert "Traceback" not in demo.said
    within(5, lambda: not servers(tmp_path) and not watchdogs(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_kill_9_of_who_started_the_store_leaves_it_to_the_others(config: Path, data_dir: Path) -> None:
    again = config.with_name("again.toml")
    again.write_text(config.read_text())
    with serve_processes(config) as [first], serve_processes(again) as [second]:
        server = server_pid(EmbeddedStore(data_dir).url)
        assert [call(each.url) for each in (first, second)] == [200, 200]
        first.kill()
        assert [call(second.url) for _ in range(4)] == [200, 200, 200, 429]
        assert servers(data_dir) == [server]


def test_kill_9_of_everything_loses_nothing_and_leaves_nothing(config: Path, data_dir: Path) -> None:
    with serve_processes(config) as [doomed]:
        assert [call(doomed.url) for _ in range(3)] == [200, 200, 200]
        sync(EmbeddedStore(data_dir).url)
        for process in [doomed.process.pid, *servers(data_dir), *watchdogs(data_dir)]:
            os.kill(process, signal.SIGKILL)
    within(5, lambda: not servers(data_dir) and not watchdogs(data_dir))
    with serve_processes(config) as [sidecar]:
        assert [call(sidecar.url) for _ in range(3)] == [200, 200, 429]
        assert len(servers(data_dir)) == len(watchdogs(data_dir)) == 1
    within(5, lambda: not servers(data_dir) and not watchdogs(data_dir))


def test_a_running_serve_brings_a_killed_store_back(config: Path, data_dir: Path) -> None:
    with serve_processes(config) as [sidecar]:
        assert [call(sidecar.url) for _ in range(3)] == [200, 200, 200]
        sync(EmbeddedStore(data_dir).url)
        server = server_pid(EmbeddedStore(data_dir).url)
        os.kill(server, signal.SIGKILL)
        until(lambda: call(sidecar.url) == 200)
        assert [call(sidecar.url) for _ in range(2)] == [200, 429]
        assert server not in processes()
