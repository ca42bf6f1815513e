"""How `serve` ends: no answer cut that can be finished, nothing unsettled, no client surprised."""

from __future__ import annotations

import http.client
import signal
import time
from collections.abc import Callable

import httpx
import pytest
from tests.cli.serving import CONFIGURATION, PATIENCE, Serving, a_held_stream

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
