"""What the commands make of several upstreams."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.cli.test_commands import rows

from govmiddleware.app import Governance
from govmiddleware.core.providers import provider_for
from govmiddleware.settings import load

UPSTREAMS = """
[[upstreams]]
name = "openai"
url = "https://api.openai.com"
api_key_env = "THE_KEY"
models = ["gpt-*", "o*"]

[[upstreams]]
name = "azure"
url = "https://azure.example"
auth = "forward"
models = ["azure-*"]

[[upstreams]]
name = "local"
url = "http://127.0.0.1:8000"
api_key = "s3cr3t"
models = ["gpt-oss-*", "llama-*"]
connect_timeout = 1
first_byte_timeout = 2
idle_timeout = 3
max_connections = 8

"""


def test_check_shows_the_upstreams_as_they_will_be_used(run, configured, monkeypatch) -> None:
    monkeypatch.setenv("THE_KEY", "s3cr3t")
    file = configured("idle_timeout = 9\n" + UPSTREAMS)
    ran = run("check", "--config", file)
    assert ran.code == 0
    table = [line.rstrip() for line in ran.out.splitlines()]
    assert rows("\n".join(table[2:6])) == [
        [
            *("NAME", "URL", "MODELS", "CREDENTIAL"),
            *("CONNECT_TIMEOUT", "FIRST_BYTE_TIMEOUT", "IDLE_TIMEOUT", "MAX_CONNECTIONS"),
        ],
        ["openai", "https://api.openai.com", "gpt-*", "o*", "THE_KEY", "5.0", "600.0", "9.0", "-"],
        ["azure", "https://azure.example", "azure-*", "the", "client's", "5.0", "600.0", "9.0", "-"],
        ["local", "http://127.0.0.1:8000", "gpt-oss-*", "llama-*", "configured", "1.0", "2.0", "3.0", "8"],
    ]
    assert ran.out.splitlines()[-1] == "note: no model of gpt-oss-* reaches local: openai comes first"
    shown = json.loads(run("check", "--config", file, "--json").out)
    assert [upstream["models"] for upstream in shown["upstreams"]] == [
        ["gpt-*", "o*"],
        ["azure-*"],
        ["gpt-oss-*", "llama-*"],
    ]
    assert [upstream["max_connections"] for upstream in shown["upstreams"]] == [None, None, 8]
    assert shown["unreached_models"] == [{"models": "gpt-oss-*", "upstream": "local", "taken_by": "openai"}]
    assert "s3cr3t" not in ran.out + json.dumps(shown)


@pytest.mark.parametrize(
    ("globs", "noted"),
    [
        ([None, ["m"]], ["m"]),
        ([["*"], None], ["*"]),
        ([["m"], None], []),
        ([["m*"], ["m-1", "m?", "[m]", "n*"]], ["m-1", "m?"]),
        ([["m?"], ["m*", "m1"]], ["m1"]),
        ([["m-*"], ["n-*"], ["m-1-*", "n-1"]], ["m-1-*", "n-1"]),
    ],
)
def test_check_notes_globs_that_no_call_comes_to(run, configured, globs, noted) -> None:
    upstreams = [{"name": f"u{number}", "models": each} for number, each in enumerate(globs)]
    text = "\n".join(
        f"[[upstreams]]\nname = '{each['name']}'" + (f"\nmodels = {each['models']}" if each["models"] else "")
        for each in upstreams
    )
    shown = json.loads(run("check", "--config", configured(text), "--json").out)
    assert [note["models"] for note in shown["unreached_models"]] == noted


def test_check_and_serve_want_the_credentials_that_other_commands_do_without(run, configured) -> None:
    configured(UPSTREAMS)
    expected = "upstreams[0].api_key_env = 'THE_KEY': expected an environment variable that is set"
    for ran in (run("check"), run("serve")):
        assert (ran.code, ran.out) == (2, "")
        assert expected in ran.err
    assert run("usage").code == run("limit", "list").code == run("token", "list").code == 0


def test_upstreams_without_urls_are_right_for_an_app_and_not_for_serve(run, configured) -> None:
    configured('[[upstreams]]\nname = "one"\nmodels = ["gpt-*"]\n[[upstreams]]\nname = "rest"')
    ran = run("check")
    assert (ran.code, [row[:3] for row in rows(ran.out)[3:5]]) == (
        0,
        [["one", "-", "gpt-*"], ["rest", "-", "*"]],
    )
    ran = run("serve")
    assert (ran.code, ran.out) == (2, "")
    assert "upstreams[0].url = None: expected the URL to forward to" in ran.err


def test_serve_takes_no_upstream_beside_those_of_the_file(run, configured) -> None:
    configured(UPSTREAMS)
    ran = run("serve", "--upstream", "http://127.0.0.1:9")
    assert (ran.code, ran.out) == (2, "")
    assert (
        "upstream = 'http://127.0.0.1:9': expected nothing beside [[upstreams]], be it --upstream" in ran.err
    )


def test_the_example_of_upstreams_in_the_documentation_does_as_it_says(run, configured, monkeypatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    [example] = [
        block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[[upstreams]]" in block
    ]
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.setenv(key, "a")
    ran = run("check", "--config", configured(example))
    assert (ran.code, "note:" in ran.out) == (0, False)
    governance = Governance(load())
    asked = (
        "gpt-oss-20b", "meta-llama/Llama-3", "gpt-4o", "o3-mini", "claude-opus-4-1", "gemini-2.5-pro",
        "us.anthropic.claude-sonnet-4-6", "amazon.nova-micro-v1:0", "command-r",
    )  # fmt: skip
    found = [provider_for(model, governance.providers) for model in asked]
    names = [provider and provider.name for provider in found]
    assert names == ["vllm", "vllm", "openai", "openai", "anthropic", "google", "bedrock", "bedrock", None]
    assert governance.prices.find("meta-llama/Llama-3") is not None
