"""Servers for tests start on a free port, stop at once and leave nothing behind."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from govmiddleware.testing.bell import Bell, Gate
from govmiddleware.testing.provider import Script, ScriptedProvider
from govmiddleware.testing.server import serve_in_thread


def test_a_server_listens_while_its_block_runs() -> None:
    before = set(threading.enumerate())
    with serve_in_thread(ScriptedProvider()) as server:
        assert httpx.get(f"{server.url}/v1/models", verify=False).status_code == 200
    with pytest.raises(ConnectionRefusedError), socket.create_connection((server.host, server.port)):
        pass
    # A thread of an earlier test (a timer of redis-py's) may end meanwhile: only new ones would be ours.
    assert set(threading.enumerate()) <= before


def test_a_server_can_listen_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with serve_in_thread(ScriptedProvider(), uds=str(path)) as server:
        transport = httpx.HTTPTransport(uds=server.uds)
        with httpx.Client(transport=transport, base_url=server.url) as client:
            assert client.get("/v1/models").status_code == 200
    assert not path.exists()


def test_a_server_hangs_up_on_running_requests_without_a_word_in_the_log(caplog) -> None:
    provider = ScriptedProvider(script=Script(never_answers=True))
    with socket.socket() as client:
        with serve_in_thread(provider) as server:
            client.connect((server.host, server.port))
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            asyncio.run(provider.until(lambda: bool(provider.exchanges)))
            stopping_at = time.monotonic()
        assert time.monotonic() - stopping_at < 1
    assert caplog.records == []


def test_a_port_that_is_taken_is_an_error() -> None:
    with (
        serve_in_thread(ScriptedProvider()) as server,
        pytest.raises(OSError, match="in use"),
        serve_in_thread(ScriptedProvider(), port=server.port),
    ):
        pass


def test_an_app_that_does_not_start_is_an_error() -> None:
    async def app(scope, receive, send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"), serve_in_thread(app):
        pass


async def test_a_gate_lets_through_as_many_as_it_is_told() -> None:
    gate, passed = Gate(), []
    bell = Bell()

    async def pass_often() -> None:
        while True:
            await gate.passage()
            passed.append(1)
            bell.ring()

    passing = asyncio.create_task(pass_often())
    await asyncio.to_thread(gate.let, 3)
    await bell.until(lambda: len(passed) == 3)
    passing.cancel()
    gate.open()
    await gate.passage()


async def test_waiting_for_what_never_happens_ends() -> None:
    with pytest.raises(TimeoutError):
        await Bell().until(lambda: False, within=0.01)
