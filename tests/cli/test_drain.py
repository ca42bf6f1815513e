"""How `serve` ends: no answer cut that can be finished, nothing unsettled, no client surprised."""

from __future__ import annotations

import http.client
import signal
import socket
import time
from collections.abc import Callable

import httpx
import pytest
from tests.cli.serving import CONFIGURATION, PATIENCE, Serving, a_held_stream
from tests.sidecar.waiting import until

from govmiddleware.cli.server import Server, listen
from govmiddleware.testing import ScriptedProvider

Serve = Callable[..., Serving]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stream_is_served_to_its_end_and_settled_when_a_signal_ends_the_process(
    serve: Serve, provider: ScriptedProvider, upstream: str, configured, run, number: signal.Signals
) -> None:
    configured(CONFIGURATION)
    serving = serve("--upstream", upstream)
    serving.until("serving on http")
    with a_held_stream(serving, provider) as stream:
        serving.process.send_signal(number)
        serving.until("Waiting for")
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{serving.url}/gov/healthz")
        assert stream.ends_well()
    assert serving.ended() == 0
    assert ",1," in run("usage", "--format", "csv").out
    assert run("audit").code == 0


def test_sighup_does_not_end_what_was_started_with_nohup(serve: Serve, configured, upstream) -> None:
    configured(CONFIGURATION)
    nohup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    serving = serve("--upstream", upstream, first=nohup)
    serving.until("serving on http")
    serving.process.send_signal(signal.SIGHUP)
    assert serving.call() == 200


def test_streams_that_outlast_the_drain_are_cut_and_settled(
    serve: Serve, configured, upstream, provider, run
) -> None:
    configured(CONFIGURATION)
    serving = serve("--upstream", upstream, "--drain-seconds", "0.5")
    serving.until("serving on http")
    with a_held_stream(serving, provider) as stream:
        serving.process.terminate()
        with pytest.raises(httpx.RemoteProtocolError):
            stream.rest()
    assert serving.ended() == 0
    assert not serving.said("Traceback", "Warning:")
    assert ",1," in run("usage", "--format", "csv").out
    assert run("audit").code == 0


def test_a_request_on_a_connection_that_was_open_before_the_end_is_answered(
    serve: Serve, configured, upstream
) -> None:
    """uvicorn by itself closes such a connection, and the request is lost."""
    configured(CONFIGURATION)
    serving = serve("--upstream", upstream)
    serving.until("serving on http")
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=PATIENCE)
    answers = []
    for _ in range(2):
        connection.request("GET", "/gov/healthz")
        answer = connection.getresponse()
        answer.read()
        answers.append((answer.status, answer.getheader("connection")))
        if len(answers) == 1:
            serving.process.terminate()
            serving.until("Waiting for")
            time.sleep(0.5)  # the client takes its time
    assert answers == [(200, None), (200, "close")]
    assert serving.ended() == 0


class EndsAsSomebodyConnects(Server):
    """Ends in the moment in which a connection was made and a request sent on it, and neither was looked at yet."""

    client: socket.socket

    async def on_tick(self, counter: int) -> bool:
        self.client = socket.create_connection(self.servers[0].sockets[0].getsockname())
        self.client.sendall(b"GET /gov/healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        return True


async def test_a_connection_that_was_made_before_the_end_is_served(gov_provider) -> None:
    """The kernel makes it, and takes it back where it was not accepted: no balancer could send it elsewhere."""
    server = EndsAsSomebodyConnects(gov_provider[0], drain_seconds=5, started=lambda: None)
    await server.serve(listen("127.0.0.1", 0))
    with server.client as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_for_a_while_after_the_signal_it_is_not_ready_and_serves_as_before_until_a_second_one(
    serve: Serve, configured, upstream, workers: str
) -> None:
    configured(CONFIGURATION)
    serving = serve("--upstream", upstream, "--workers", workers, "--drain-delay-seconds", "600")
    serving.until("serving on http")
    serving.process.terminate()
    told = until(lambda: _not_ready(serving))
    assert told == {"ready": False, "problems": ["it is shutting down"], "warnings": []}
    assert [serving.call() for _ in range(3)] == [200] * 3, "each on a connection of its own"
    serving.process.send_signal(signal.SIGINT)
    assert serving.ended() == 0


def _not_ready(serving: Serving) -> object | None:
    answer = httpx.get(f"{serving.url}/gov/readyz")
    return answer.json() if answer.status_code == 503 else None
