"""The two commands that run servers, as processes."""

from __future__ import annotations

import signal
import socket

import httpx
import pytest
from tests.cli.serving import BODY, CONFIGURATION, PATIENCE, TOKEN, Serving

from govmiddleware.testing import ScriptedProvider


def trailers_that_arrived(serving: Serving, provider: ScriptedProvider, secret: str) -> list[bytes]:
    """Send a request with trailers; which of them the upstream sees."""
    body = httpx.Request("POST", "http://x", json=BODY).content
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gov\r\nauthorization: Bearer %s\r\n"
    chunks = b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n%x\r\n%s\r\n0\r\n"
    trailers = b"x-smuggled: 1\r\nauthorization: Bearer other\r\n\r\n"
    with socket.create_connection(("127.0.0.1", serving.port), timeout=PATIENCE) as wire:
        wire.sendall(head % secret.encode() + chunks % (len(body), body) + trailers)
        assert wire.recv(65536).startswith(b"HTTP/1.1 200 ")
    return [name for name, _ in provider.exchanges[-1].headers if name == b"x-smuggled"]


def test_without_any_token_serve_refuses_every_call_and_says_how_to_create_one(
    serve, gov_provider, run
) -> None:
    serving = serve("--upstream", gov_provider[1])
    assert "govmiddleware token create NAME" in serving.until("no API token")
    serving.until("serving on http")
    assert httpx.post(f"{serving.url}/v1/chat/completions", json=BODY, headers=TOKEN).status_code == 401
    secret = run("token", "create", "ci").out.strip()
    answer = httpx.post(
        f"{serving.url}/v1/chat/completions", json=BODY, headers={"authorization": f"Bearer {secret}"}
    )
    assert answer.status_code == 200, "a token works as soon as it is created"
    assert httpx.get(f"{serving.url}/gov/readyz").json()["ready"] is True
    assert trailers_that_arrived(serving, gov_provider[0], secret) == []
    serving.process.send_signal(signal.SIGINT)
    assert serving.ended() == 0
    assert not any("Traceback" in line for line in serving.lines)


def test_links_in_refusals_lead_to_the_port_that_is_served(serve, upstream, configured) -> None:
    limit = '[[limits]]\nname = "none"\nscope = "user"\nmeter = "requests"\nwindow = "day"\nhard = 0'
    configured(CONFIGURATION + limit)
    serving = serve("--upstream", upstream)
    serving.until("serving on http")
    error = httpx.post(f"{serving.url}/v1/chat/completions", json=BODY, headers=TOKEN).json()["error"]
    assert error["override_url"].startswith(f"{serving.url}/gov/refusals/")
    assert httpx.get(error["override_url"]).status_code == 200


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_port_that_is_taken_exits_with_3_and_one_line(run, gov_provider, workers: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = run("serve", "--upstream", gov_provider[1], "--port", port, "--workers", workers)
    assert ran.told == (3, "", f"govmiddleware: cannot listen on 127.0.0.1:{port}: Address already in use\n")


def test_the_demo_ends_well_with_a_table_whatever_the_environment_says(run, monkeypatch, store) -> None:
    for name, value in {
        "GOV_REDIS_URL": "unix:///nowhere.sock",
        "GOV_CONTROL_PREFIX": "/elsewhere",
        "GOV_ATTRIBUTION": "pinned",
        "GOV_MAX_BODY_BYTES": "1",
    }.items():
        monkeypatch.setenv(name, value)
    ran = run("demo")
    assert ran.code == 0, ran.err
    assert {"CALL", "USER", "STATUS", "ANSWER"} <= set(ran.out.split())
    for said in ("insufficient_quota", "rate_limit_exceeded", "model_not_priced", "TOTAL", "user-month"):
        assert said in ran.out
    assert "Traceback" not in ran.err
    assert store.dbsize() == 0, "it has a store of its own"
