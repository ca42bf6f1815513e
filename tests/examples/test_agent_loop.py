"""examples/agent_loop: an agent with tools, and how its run ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from tests.examples.conftest import Example
from tests.sidecar.books import Books

from govmiddleware.testing import Script, ScriptedProvider

LIST = Script(tool="list_cities", text="{}")
GET = Script(tool="get_temperature", text='{"city": "Cairo"}')
ANSWER = "Cairo, by 19 degrees."
NEARLY_SPENT = {"prompt_eval_count": 4_000, "eval_count": 100}
SPENT = {"prompt_eval_count": 4_000, "eval_count": 1_100}


@pytest.fixture
def ask(
    example: Callable[[str], Example],
    provider_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs it as the shell does, with changes to its files; what it prints."""
    monkeypatch.setenv("OLLAMA_HOST", provider_url)
    monkeypatch.setattr(sys, "argv", ["agent.py", "Which", "is", "warmest?"])

    def run(*changes: tuple[str, str, str]) -> str:
        agent = example("agent_loop")
        for change in changes:
            agent.change(*change)
        agent.run("agent.py")
        return capsys.readouterr().out

    return run


def test_it_uses_its_tools_until_it_can_answer(
    ask: Callable[..., str], provider: ScriptedProvider, books: Books
) -> None:
    for script in (LIST, GET, Script(text=ANSWER)):
        provider.next(script)
    assert ask() == f"{ANSWER}\n"
    *_, last = provider.exchanges
    assert last.body is not None
    said = [message["content"] for message in last.body["messages"] if message["role"] == "tool"]
    assert said == ["Berlin, Cairo, Oslo", "31"]
    assert last.body["options"]["num_predict"] == 400
    records = books.records()
    assert [(record.agent, record.settlement) for record in records] == [("weather", "exact")] * 3
    [_, *consumed] = books.records("adjustment")
    assert len(consumed) == 3
    assert books.audit().ok


def test_near_its_budgets_end_it_is_told_to_answer_and_has_no_tools(
    ask: Callable[..., str], provider: ScriptedProvider
) -> None:
    provider.next(Script(tool="list_cities", text="{}", usage=NEARLY_SPENT))
    provider.next(Script(text=ANSWER))
    assert ask() == f"{ANSWER}\n"
    first, last = (exchange.body or {} for exchange in provider.exchanges)
    assert len(first["tools"]) == 2
    assert not last["tools"]
    assert last["messages"][-1] == {"role": "system", "content": "Answer now, with what you know."}


def test_at_its_budgets_end_it_stops_with_what_it_knows(
    ask: Callable[..., str], provider: ScriptedProvider
) -> None:
    provider.next(Script(tool="list_cities", text="{}", usage=SPENT))
    assert ask() == "I was stopped by max_tokens, and know this: Berlin, Cairo, Oslo\n"
    assert len(provider.exchanges) == 1


def test_a_run_that_lasts_too_long_stops(ask: Callable[..., str], provider: ScriptedProvider) -> None:
    provider.next(Script(tool="list_cities", text="{}", delay=1.1))
    said = ask(("agent.py", "max_wall_clock=60", "max_wall_clock=1"))
    assert said.startswith("I was stopped by max_wall_clock")


def test_a_limit_that_others_share_refuses_its_call(
    ask: Callable[..., str], provider: ScriptedProvider
) -> None:
    assert ask(("govmiddleware.toml", "hard = 1.0", "hard = 0.0")).startswith("Not today: Limit 'agents-day'")
    assert provider.exchanges == []
