"""docs/budgets.md, followed to the letter: an agent's loop on the openai SDK, and everything else that it shows."""

from __future__ import annotations

import ast
import inspect
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from govmiddleware import BudgetExhaustedError, Caps, Governance
from govmiddleware.services.audit import audit
from govmiddleware.testing.provider import Script, ScriptedProvider

PAGE = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


async def run(block: str, names: dict[str, Any]) -> None:
    """A block of the page, which may await at its top."""
    result = eval(compile(block, "docs/budgets.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.isawaitable(result):
        await result


@pytest.fixture(autouse=True)
def a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOV_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def provider(gov_provider: tuple[ScriptedProvider, str]) -> tuple[ScriptedProvider, str]:
    """Each answer uses 12,000 tokens."""
    usage = {"prompt_tokens": 10_000, "completion_tokens": 2_000, "total_tokens": 12_000}
    gov_provider[0].script = Script(usage=usage)
    return gov_provider


NAMES = {
    "Governance": Governance,
    "model": "gpt-4o-mini",
    "conversation": [{"role": "user", "content": "Go on."}],
}


async def test_an_agent_loop_is_governed_in_five_lines(provider: tuple[ScriptedProvider, str]) -> None:
    [loop] = [block for block in BLOCKS if "async with Governance" in block]
    assert len(loop.splitlines()) == 5
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{provider[1]}/v1") as client:
        await run(loop, NAMES | {"client": client})
    assert len(provider[0].exchanges) == 5
    async with Governance.from_settings() as governance:
        usage = await governance.budget("research").usage_for()
        assert (usage.requests, usage.total_tokens) == (5, 60_000)
        assert usage.cost_usd == 5 * (10_000 * Decimal("0.15") + 2_000 * Decimal("0.60")) / 10**6
        assert (await audit(governance.journal)).ok


def test_so_is_one_without_an_event_loop(provider: tuple[ScriptedProvider, str]) -> None:
    [loop] = [block for block in BLOCKS if "sync_budget" in block]
    assert len(loop.splitlines()) == 5
    with openai.OpenAI(api_key="k", base_url=f"{provider[1]}/v1") as client:
        exec(loop, NAMES | {"client": client})
    assert len(provider[0].exchanges) == 5


async def test_the_rest_of_the_page_is_true() -> None:
    rest = [block for block in BLOCKS if "Governance.from_settings" not in block]
    assert len(rest) == 4
    async with Governance.from_settings() as governance:
        names: dict[str, Any] = {
            "governance": governance,
            "Caps": Caps,
            "BudgetExhaustedError": BudgetExhaustedError,
            "Decimal": Decimal,
        }
        for block in rest:
            await run(block, names)
        assert names["final"].total_tokens == 9_800
        assert (await audit(governance.journal)).ok
