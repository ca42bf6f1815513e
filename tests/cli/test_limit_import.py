"""`limit import`: LiteLLM's budgets and rate limits become limits that our configuration takes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Ran

Run = Callable[..., Ran]

CONFIG = """
model_list:
  - {model_name: house, litellm_params: {model: openai/gpt-4o, rpm: 100, tpm: 9}}
litellm_settings:
  max_budget: 500
  budget_duration: 30d
  tpm_limit: os.environ/TPM
  max_internal_user_budget: 10.5
  internal_user_budget_duration: weekly
  default_team_params: {tpm_limit: 20000, model_max_budget: {gpt-4o: {budget_limit: 1, time_period: 1d}}}
  tag_budget_config: {"team=search": {max_budget: 5, budget_duration: 1d}, urgent: {max_budget: 1}}
general_settings: {global_max_parallel_requests: 50}
router_settings: {provider_budget_config: {openai: {budget_limit: 3, time_period: 1d}}}
"""

TABLES = {
    "LiteLLM_VerificationToken": [
        {
            "token": "a" * 64,
            "key_alias": "ann's laptop",
            "budget_id": "b-1",
            "max_parallel_requests": 3,
            "rpm_limit": 60,
            "tpd_limit": 100000,
            "spend": 1.25,
            "models": ["gpt-4o"],
            "model_max_budget": {"gpt-4o": {"budget_limit": 2, "time_period": "1d", "rpm_limit": 5}},
            "budget_limits": [
                {"max_budget": 2, "budget_duration": "1d", "reset_at": "2026-12-07T00:00:00"},
                {"max_budget": 9, "budget_duration": "10d", "reset_at": "2026-12-07T00:00:00"},
            ],
            "metadata": {"model_tpm_limit": {"gpt-4o-mini": 700}},
        },
        {"token": "b" * 64, "max_budget": 4, "budget_duration": "5h", "blocked": True},
        {"token": "c" * 64, "rpm_limit": 0, "budget_id": "gone"},
    ],
    "LiteLLM_BudgetTable": [
        {"budget_id": "b-1", "max_budget": 20, "soft_budget": 15, "budget_duration": "1mo"},
        {"budget_id": "b-2", "max_budget": 3},
    ],
    "LiteLLM_TeamTable": [
        {
            "team_id": "t-1",
            "team_alias": "Search",
            "max_budget": 100,
            "budget_duration": "14d",
            "budget_reset_at": "2026-12-07T00:00:00",
        }
    ],
    "LiteLLM_UserTable": [
        {"user_id": "ann", "user_role": "internal_user", "max_budget": None, "tpm_limit": 900}
    ],
    "LiteLLM_TeamMembership": [{"user_id": "ann", "team_id": "t-1", "spend": 0, "budget_id": "b-1"}],
    "LiteLLM_EndUserTable": [{"user_id": "customer", "default_model": None, "budget_id": "b-1"}],
    "LiteLLM_TagTable": [{"tag_name": "urgent", "budget_id": "b-1"}],
    "LiteLLM_OrganizationTable": [
        {"organization_id": "acme", "organization_alias": "Acme", "budget_id": "b-1"}
    ],
    "LiteLLM_Unheard": [{"colour": "red"}],
}


@pytest.fixture
def imported(run: Run, tmp_path: Path) -> Callable[..., Ran]:
    (tmp_path / "litellm.yaml").write_text(CONFIG)
    (tmp_path / "tables.json").write_text(json.dumps(TABLES))

    def run_import(*arguments: str) -> Ran:
        return run("limit", "import", "litellm.yaml", "tables.json", *arguments)

    return run_import


def limits(ran: Ran) -> dict[str, dict[str, Any]]:
    return {limit.pop("name"): limit for limit in tomllib.loads(ran.out)["limits"]}


def test_what_it_prints_is_a_configuration_of_the_same_limits(
    imported: Callable[..., Ran], run: Run, configured: Callable[[str], str]
) -> None:
    ran = imported()
    month = {"meter": "cost_usd", "window": "month"}
    ann = {"scope": "api_token", "value": "ann's laptop"}
    ann_and = {"scope": ["api_token", "model"]}
    assert limits(ran) == {
        "all-usd": {"scope": "deployment", **month, "hard": 500},
        "all-slots": {"scope": "deployment", "meter": "concurrency", "hard": 50},
        "each-user-usd": {
            "scope": "user",
            "default": True,
            "meter": "cost_usd",
            "window": "week",
            "hard": 10.5,
        },
        "each-team-tpm": {
            "scope": "tag:team",
            "default": True,
            "meter": "total_tokens",
            "rate": "20000/minute",
        },
        "tag-search-usd": {
            "scope": "tag:team",
            "value": "search",
            "meter": "cost_usd",
            "window": "day",
            "hard": 5,
        },
        "tag-urgent-usd": {
            "scope": "tag:tag",
            "value": "urgent",
            "meter": "cost_usd",
            "window": "lifetime",
            "hard": 1,
        },
        "key-ann-s-laptop-usd": {**ann, **month, "hard": 20, "soft": 15},
        "key-ann-s-laptop-usd-2": {**ann, "meter": "cost_usd", "window": "day", "hard": 2},
        "key-ann-s-laptop-usd-3": {
            **ann,
            "meter": "cost_usd",
            "window": "10d",
            "anchor": date(2026, 12, 7),
            "hard": 9,
        },
        "key-ann-s-laptop-tpd": {**ann, "meter": "total_tokens", "rate": "100000/day"},
        "key-ann-s-laptop-rpm": {**ann, "meter": "requests", "rate": "60/minute"},
        "key-ann-s-laptop-slots": {**ann, "meter": "concurrency", "hard": 3},
        "key-ann-s-laptop-gpt-4o-usd": {
            **ann_and,
            "value": ["ann's laptop", "gpt-4o"],
            "meter": "cost_usd",
            "window": "day",
            "hard": 2,
        },
        "key-ann-s-laptop-gpt-4o-rpm": {
            **ann_and,
            "value": ["ann's laptop", "gpt-4o"],
            "meter": "requests",
            "rate": "5/minute",
        },
        "key-ann-s-laptop-gpt-4o-mini-tpm": {
            **ann_and,
            "value": ["ann's laptop", "gpt-4o-mini"],
            "meter": "total_tokens",
            "rate": "700/minute",
        },
        "team-t-1-usd": {
            "scope": "tag:team",
            "value": "t-1",
            "meter": "cost_usd",
            "window": "14d",
            "anchor": date(2026, 12, 7),
            "hard": 100,
        },
        "user-ann-tpm": {"scope": "user", "value": "ann", "meter": "total_tokens", "rate": "900/minute"},
        "member-t-1-ann-usd": {
            "scope": ["tag:team", "user"],
            "value": ["t-1", "ann"],
            **month,
            "hard": 20,
            "soft": 15,
        },
        "user-customer-usd": {"scope": "user", "value": "customer", **month, "hard": 20, "soft": 15},
        "tag-urgent-usd-2": {"scope": "tag:tag", "value": "urgent", **month, "hard": 20, "soft": 15},
        "organization-acme-usd": {
            "scope": "tag:organization",
            "value": "acme",
            **month,
            "hard": 20,
            "soft": 15,
        },
    }
    checked = run("check", "--config", configured('upstream = "http://h"\n' + ran.out))
    assert checked.out.startswith("ok: 21 limits"), checked.err


def test_what_has_no_limit_here_is_told_with_its_reason(imported: Callable[..., Ran]) -> None:
    told = imported().err
    for said in (
        "21 limits; 11 things are not mapped.",
        "litellm.yaml: litellm_settings: tpm_limit = 'os.environ/TPM': no number",
        "litellm.yaml: default_team_params: a limit on the model gpt-4o: for each user or team there is none",
        "litellm.yaml: provider_budget_config: budgets of deployments stay LiteLLM's",
        "litellm.yaml: house: rpm, tpm: limits of deployments stay LiteLLM's",
        "LiteLLM_VerificationToken, item 1: models: which models a key may use stays LiteLLM's",
        "LiteLLM_VerificationToken, item 2: max_budget of 4 USD each 5h: a window is hour, day,",
        "LiteLLM_VerificationToken, item 2: blocked: nobody is blocked here",
        "LiteLLM_VerificationToken, item 3: budget_id gone: export LiteLLM_BudgetTable too",
        "LiteLLM_VerificationToken, item 3: a limit on api_token: rate = '0/minute': expected a whole number",
        "LiteLLM_Unheard, item 1: none of LiteLLM's tables has these columns",
        "budget b-2: nothing here refers to it",
    ):
        assert said in told, told


def test_what_is_spent_is_told_beside_the_limit_and_in_json(imported: Callable[..., Ran]) -> None:
    assert (
        "[[limits]]\n# LiteLLM: 1.25 USD of it are spent. Here it begins at 0.\n"
        'name = "key-ann-s-laptop-usd"\n' in imported().out
    )
    found = json.loads(imported("--json").out)
    assert found["spent_usd"] == {"key-ann-s-laptop-usd": "1.25"}
    assert (len(found["limits"]), len(found["not_mapped"])) == (21, 11)


def test_a_table_as_postgresql_writes_it_in_csv_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "teams.csv").write_text(
        "team_id,team_alias,models,max_budget,budget_duration,tpm_limit,blocked,model_max_budget\n"
        't-1,Search,{},10,7d,,f,"{""gpt-4o"": {""max_budget"": 1, ""budget_duration"": ""30d""}}"\n'
    )
    ran = run("limit", "import", "teams.csv")
    assert {name: limit["window"] for name, limit in limits(ran).items()} == {
        "team-t-1-usd": "week",
        "team-t-1-gpt-4o-usd": "month",
    }
    assert ran.err == "2 limits; 0 things are not mapped.\n"


def test_a_single_user_is_a_row_although_it_has_a_column_of_teams(run: Run, tmp_path: Path) -> None:
    (tmp_path / "users.json").write_text('{"user_id": "ann", "teams": ["t-1"], "max_budget": 5}')
    assert limits(run("limit", "import", "users.json")).keys() == {"user-ann-usd"}


def test_a_line_of_json_ends_where_the_line_does(run: Run, tmp_path: Path) -> None:
    team = '{"team_id": "t-1", "team_alias": "one\u2028two", "max_budget": 5}'
    (tmp_path / "teams.json").write_text(f"{team}\r\n{team}\n")
    assert limits(run("limit", "import", "teams.json")).keys() == {"team-t-1-usd", "team-t-1-usd-2"}


def test_a_header_in_another_case_is_no_table_of_litellms(run: Run, tmp_path: Path) -> None:
    (tmp_path / "keys.csv").write_text("TOKEN,KEY_ALIAS,MAX_BUDGET\nsk-1,ann,5\n")
    ran = run("limit", "import", "keys.csv")
    assert (ran.out, ran.err.count("none of LiteLLM's tables has these columns")) == ("", 1)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("none.yaml", None, "FILE = 'none.yaml': expected a file that can be read"),
        ("c.yaml", "a: [", "FILE = 'c.yaml': expected YAML"),
        ("c.yaml", "- 1", "FILE = 'c.yaml': expected LiteLLM's configuration, a mapping"),
        ("t.csv", 'a\n"', "t.csv, line 2 = None: expected CSV"),
    ],
)
def test_what_cannot_be_read_is_told(
    run: Run, tmp_path: Path, name: str, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    ran = run("limit", "import", name)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err


def test_without_a_file_it_says_what_it_wants(run: Run) -> None:
    assert "FILE = None: expected LiteLLM's config.yaml" in run("limit", "import").err
