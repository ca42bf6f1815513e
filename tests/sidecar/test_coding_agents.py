"""Claude Code and Codex, the real programs, through the sidecar: they complete a turn, and every call is in the books."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.built import built
from tests.sidecar.books import Books
from tests.sidecar.coding_agents import ClaudeCode, Codex, CodingAgent, Tap
from tests.sidecar.conftest import SECRET, RunningSidecar
from tests.sidecar.waiting import until

import agents_env
from govmiddleware.testing import Script
from govmiddleware.testing.provider import Headers

Run = Callable[..., RunningSidecar]

OURS = {b"host", b"authorization", b"x-api-key", b"x-request-id", b"connection", b"accept-encoding"}
"""Headers that we write ourselves, or that are about one connection."""


@pytest.fixture
def claude_code(tmp_path: Path) -> ClaudeCode:
    return ClaudeCode(built(agents_env.CLAUDE_CODE, agents_env), tmp_path)


@pytest.fixture
def codex(tmp_path: Path) -> Codex:
    return Codex(built(agents_env.CODEX, agents_env), tmp_path)


@pytest.fixture(params=["claude_code", "codex"])
def agent(request: pytest.FixtureRequest) -> CodingAgent:
    found: CodingAgent = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def books(gov_store: str) -> Books:
    return Books(gov_store)


def kept(headers: Headers) -> Headers:
    return sorted(header for header in headers if header[0] not in OURS)


def test_a_turn_with_a_tool_passes_unharmed_and_is_metered_exactly_in_its_session(
    run_sidecar: Run, agent: CodingAgent, books: Books
) -> None:
    (agent.folder / "note.txt").write_text("xyzzy\n")
    tap = Tap()
    sidecar = run_sidecar(around=tap.before)
    looks = agent.runs("cat note.txt && touch seen.txt")
    sidecar.provider.next(replace(looks, usage=agent.usage(fresh=9_000, cached=0, output=40)))
    says = Script(text="It says xyzzy.", usage=agent.usage(fresh=77, cached=9_000, output=3))
    sidecar.provider.next(says)

    turn = agent.ask("What does note.txt say?", sidecar.url)

    assert turn.code == 0, turn.errors
    assert agent.last_words(turn) == "It says xyzzy."
    assert (agent.folder / "seen.txt").exists()
    asked, told = sidecar.provider.exchanges
    assert b"xyzzy" not in asked.raw_body
    assert b"xyzzy" in told.raw_body

    # What the agent sent is what the provider received, to the byte.
    assert tap.handshakes == agent.handshakes
    for sent, received in zip(tap.requests, sidecar.provider.exchanges, strict=True):
        assert (sent.method, sent.path, sent.query) == (received.method, received.path, received.query)
        assert kept(sent.headers) == kept(received.headers)
        assert sent.body == received.raw_body
        assert SECRET.encode() not in received.raw_body + b"".join(value for _, value in received.headers)

    # The books have each call as the provider reported it, and as the agent tells its user.
    records = until(lambda: found if len(found := books.records()) == 2 else None)
    figures = [
        (each.usage.input_tokens, each.usage.cached_tokens, each.usage.output_tokens)
        for each in records
        if each.usage
    ]
    assert figures == [(9_000, 0, 40), (9_077, 9_000, 3)]
    assert agent.reported(turn) == (18_077, 9_000, 43)
    assert {(each.protocol, each.settlement) for each in records} == {(agent.protocol, "exact")}
    assert {each.session.encode() for each in records} == {asked.header(agent.session_header)}
    assert books.audit().differences == []


def test_a_budget_that_is_spent_ends_the_turn_at_once(run_sidecar: Run, agent: CodingAgent) -> None:
    limit = {"name": "poor", "scope": "session", "meter": "cost_usd", "window": "month", "hard": 0.00001}
    tap = Tap()
    sidecar = run_sidecar(around=tap.before, limits=[limit])
    turn = agent.ask("Hello", sidecar.url)
    assert turn.code == 1
    # Codex has words of its own for it.
    assert any(words in agent.last_words(turn) for words in ("Limit 'poor'", "Quota exceeded"))
    assert len(tap.requests) == 1
    assert sidecar.provider.exchanges == []


def test_claude_code_counts_its_context_for_nothing(
    run_sidecar: Run, claude_code: ClaudeCode, books: Books
) -> None:
    limit = {"name": "poor", "scope": "session", "meter": "cost_usd", "window": "month", "hard": 0.00001}
    sidecar = run_sidecar(limits=[limit])
    turn = claude_code.ask("/context", sidecar.url)
    assert "Context Usage" in claude_code.last_words(turn)
    assert {exchange.path for exchange in sidecar.provider.exchanges} == {"/v1/messages/count_tokens"}
    assert {(each.protocol, each.cost_usd) for each in books.records()} == {
        ("anthropic.count_tokens", "0.000000000")
    }
