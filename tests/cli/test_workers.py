"""`serve --workers N`: how it starts, drains, reloads and ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pytest
from tests.cli.serving import BODY, CONFIGURATION, SECRET, Serving, a_held_stream
from tests.sidecar.waiting import until

UPSTREAM_KEY = "sk-upstream-123"
COMPLAINTS = "Traceback", "Warning:"
A_LIMIT = """
[[limits]]
name = "none"
scope = "workspace"
meter = "requests"
window = "lifetime"
hard = 0
"""

Serve = Callable[..., Serving]


@pytest.fixture
def two_workers(serve: Serve, configured, upstream) -> tuple[Serving, list[int]]:
    configured(CONFIGURATION)
    serving = serve("--upstream", upstream, "--workers", "2")
    return serving, serving.until_workers_serve(2)


# Starting ----------------------------------------------------------------------------------------


def test_what_is_to_be_said_once_is_said_once_and_no_secret_is_said_or_shown(
    serve: Serve, upstream, configured, run
) -> None:
    configured(f'upstream_api_key = "{UPSTREAM_KEY}"')
    serving = serve("--upstream", upstream, "--workers", "3")
    workers = serving.until_workers_serve(3)
    arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers if Path("/proc/self").exists()]
    serving.process.terminate()
    assert serving.ended() == 0
    for once in ("govmiddleware token create NAME", "serving on http"):
        assert serving.said(once) == 1
    assert UPSTREAM_KEY not in "".join(serving.lines)
    assert not any(UPSTREAM_KEY.encode() in shown for shown in arguments)
    assert not serving.said(*COMPLAINTS)


@pytest.mark.parametrize(
    "arguments",
    [["--workers", "3"], ["--workers", "0"], ["--drain-seconds", "-1"], ["--drain-delay-seconds", "-1"]],
)
def test_a_configuration_error_is_said_once_and_exits_with_2(run, arguments: list[str]) -> None:
    ran = run("serve", *arguments)
    assert ran.code == 2
    assert re.fullmatch(
        r"govmiddleware: (upstream|--workers|--drain-(delay-)?seconds) = .+: expected .+\n", ran.err
    )


def test_workers_whose_lifespan_fails_end_it_all_with_one_clear_error(
    serve: Serve, upstream, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "data").write_text("not a directory")
    monkeypatch.setenv("GOV_DATA_DIR", str(tmp_path / "data"))
    serving = serve("--upstream", upstream, "--workers", "3")
    assert serving.ended() == 3
    assert serving.said("audit_key = ") == 1
    assert serving.said("Started server process") == 1
    assert not serving.said(*COMPLAINTS)


# Ending ------------------------------------------------------------------------------------------


def test_at_ctrl_c_running_streams_end_well_and_are_settled(
    two_workers: tuple[Serving, list[int]], provider, run
) -> None:
    serving, _ = two_workers
    with a_held_stream(serving, provider) as stream:
        os.killpg(serving.process.pid, signal.SIGINT)  # as a terminal does
        serving.until("Waiting for")
        assert stream.ends_well()
    assert serving.ended() == 0
    assert not serving.said(*COMPLAINTS)
    assert ",1," in run("usage", "--format", "csv").out
    assert run("audit").code == 0


def test_a_second_ctrl_c_ends_it_at_once(two_workers: tuple[Serving, list[int]], provider) -> None:
    serving, _ = two_workers
    with a_held_stream(serving, provider) as stream:
        os.killpg(serving.process.pid, signal.SIGINT)
        serving.until("Waiting for")
        os.killpg(serving.process.pid, signal.SIGINT)
        with pytest.raises(httpx.RemoteProtocolError):
            stream.rest()
    assert serving.ended() == 0
    assert not serving.said(*COMPLAINTS)


def test_a_worker_that_dies_or_hangs_is_replaced(serve: Serve, configured, upstream) -> None:
    configured(CONFIGURATION)
    quicker = "from govmiddleware.cli import supervisor; supervisor._BEAT_SECONDS = 0.3"
    serving = serve("--upstream", upstream, "--workers", "2", first=quicker)
    dead, stuck = serving.until_workers_serve(2)
    os.kill(dead, signal.SIGKILL)
    serving.until(f"worker {dead} was lost: it ended by SIGKILL")
    serving.until_workers_serve(1)
    os.kill(stuck, signal.SIGSTOP)
    serving.until(f"worker {stuck} hangs and is killed")
    serving.until_workers_serve(1)
    assert serving.call() == 200


def test_no_worker_outlives_its_supervisor(two_workers: tuple[Serving, list[int]]) -> None:
    serving, _ = two_workers
    serving.process.kill()
    serving.ended()  # stderr is closed: its last writer is gone
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", serving.port))


# Reloading ---------------------------------------------------------------------------------------


def test_on_sighup_workers_are_replaced_one_by_one_and_no_client_meets_an_error(
    two_workers: tuple[Serving, list[int]], provider, configured
) -> None:
    serving, _ = two_workers
    over = threading.Event()
    served: list[object] = []

    def work() -> None:
        """One request after the other, without a second try, and slow enough to leave time for the workers' start."""
        with openai.OpenAI(base_url=f"{serving.url}/v1", api_key=SECRET, max_retries=0) as client:
            while not over.wait(0.02):
                try:
                    served.append(client.chat.completions.create(**BODY).choices[0].message.content)  # type: ignore[call-overload]
                except openai.APIError as error:
                    served.append(repr(error))

    clients = [threading.Thread(target=work) for _ in range(3)]
    with a_held_stream(serving, provider) as stream:
        for client in clients:
            client.start()
        serving.process.send_signal(signal.SIGHUP)
        serving.until_workers_serve(1)
        assert stream.ends_well()
    serving.until_workers_serve(1)
    serving.until(" ended")
    over.set()
    for client in clients:
        client.join()
    assert len(served) > 50
    assert set(served) == {"The quick brown fox jumps over the lazy dog."}

    configured(CONFIGURATION + A_LIMIT)
    serving.process.send_signal(signal.SIGHUP)
    serving.until_workers_serve(2)
    serving.until(" ended")
    assert serving.call() == 429, "they read the configuration again"
    assert fewest_that_served(serving.lines) == 2
    assert not serving.said(*COMPLAINTS)


def fewest_that_served(lines: list[str]) -> int:
    """From when two did."""
    serving, fewest = 0, 2
    for line in lines:
        serving += bool(re.search(r"worker \d+ serves", line)) - bool(re.search(r"worker \d+ drains", line))
        if " drains" in line:
            fewest = min(fewest, serving)
    return fewest


def test_a_broken_configuration_changes_nothing_and_is_told(
    two_workers: tuple[Serving, list[int]], configured
) -> None:
    serving, _ = two_workers
    configured(CONFIGURATION + "lease_seconds = 0\nfrobnicate = 1")
    serving.process.send_signal(signal.SIGHUP)
    told = serving.until("the configuration cannot be used")
    assert "api_tokens[0].frobnicate" in told
    assert serving.call() == 200
    serving.process.terminate()
    assert serving.ended() == 0
    assert serving.said("Started server process") == 2, "nobody was replaced"


def test_a_configuration_that_no_worker_can_start_with_leaves_the_old_ones_at_work(
    serve: Serve, configured, upstream, gov_store: str, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "data").write_text("not a directory")
    monkeypatch.setenv("GOV_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GOV_AUDIT_KEY", "a secret of this test alone, of many words")
    configured(f'redis_url = "{gov_store}"\n{CONFIGURATION}')
    serving = serve("--upstream", upstream, "--workers", "2")
    [first, _] = serving.until_workers_serve(2)
    configured(CONFIGURATION)  # embedded, for which there is no place
    serving.process.send_signal(signal.SIGHUP)
    serving.until("data_dir = ")
    serving.until("the new configuration does not serve")
    os.kill(first, signal.SIGKILL)
    serving.until_workers_serve(1)
    assert serving.call() == 200, "a replacement has the old configuration"
    assert not serving.said(" drains"), "nobody had to go for the one that never came"


def test_while_the_workers_drain_nobody_is_let_in(two_workers: tuple[Serving, list[int]], provider) -> None:
    serving, _ = two_workers
    with a_held_stream(serving, provider) as one, a_held_stream(serving, provider) as two:
        serving.process.terminate()
        for _ in range(2):
            serving.until(" drains")

        def is_refused() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(serving.url.rpartition(":")[2]))) != 0

        until(is_refused)
        assert one.ends_well()
        assert two.ends_well()
    assert serving.ended() == 0


def test_an_end_is_heard_in_the_midst_of_a_restart(two_workers: tuple[Serving, list[int]], provider) -> None:
    serving, _ = two_workers
    with a_held_stream(serving, provider) as one, a_held_stream(serving, provider) as two:
        serving.process.send_signal(signal.SIGHUP)
        serving.until(" drains")
        serving.process.terminate()
        for _ in range(2):
            serving.until(" drains")
        assert one.ends_well()
        assert two.ends_well()
    assert serving.ended() == 0
    assert not serving.said(*COMPLAINTS)


def test_sigttin_adds_a_worker_and_sigttou_takes_one_away(two_workers: tuple[Serving, list[int]]) -> None:
    serving, (first, second) = two_workers
    serving.process.send_signal(signal.SIGTTIN)
    [third] = serving.until_workers_serve(1)
    for oldest in (first, second):
        serving.process.send_signal(signal.SIGTTOU)
        serving.until(f"worker {oldest} ended")
    serving.process.send_signal(signal.SIGTTOU)
    serving.until("1 workers are wanted")
    assert serving.call() == 200, "one stays"
    serving.process.send_signal(signal.SIGHUP)
    [fourth] = serving.until_workers_serve(1)
    serving.until(f"worker {third} ended")
    assert serving.call() == 200
    assert fourth != third
