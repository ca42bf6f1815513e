"""The real commands, on the books of calls that LiteLLM answered."""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai.types import CompletionUsage
from tests.litellm.conftest import Gateway
from tests.sidecar.processes import govmiddleware

from govmiddleware.testing import ScriptedProvider

HELLO: Any = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}
WITH_USAGE: Any = {"stream": True, "stream_options": {"include_usage": True}}


def run(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    """What a command on the deployment says with `--json`. Raises CalledProcessError where it does not exit 0."""
    command = govmiddleware(*arguments, "--json", "--config", str(gateway.config))
    said: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return said


def test_usage_is_what_litellm_said_and_the_audit_is_clean(
    gateway: Gateway, provider: ScriptedProvider
) -> None:
    reports: list[CompletionUsage] = []
    cost = Decimal(0)
    with gateway.client(default_headers={"x-gov-user": "bookkeeper"}) as client:
        completions = client.chat.completions
        for model in ("gpt-4o-mini", "gpt-4o", "gpt-3.5-turbo"):
            raw = completions.with_raw_response.create(model=model, **HELLO)
            reports += [report for report in [raw.parse().usage] if report]
            cost += Decimal(raw.headers["x-litellm-response-cost"])
            stream = completions.create(model=model, **WITH_USAGE, **HELLO)
            [report] = [chunk.usage for chunk in stream if chunk.usage]
            reports.append(report)
            cost += Decimal(str((report.model_extra or {})["cost"]))
        with pytest.raises(openai.InternalServerError):
            completions.create(model="gpt-4.1", **HELLO)

    [ours] = [one for one in run(gateway, "usage", "--by", "user")["groups"] if one["id"] == "bookkeeper"]
    assert ours["requests"] == len(reports) + 1 == 7
    assert ours["input_tokens"] == sum(report.prompt_tokens for report in reports)
    assert ours["output_tokens"] == sum(report.completion_tokens for report in reports)
    assert Decimal(ours["cost_usd"]) == round(cost, 9)
    assert ours["debt_usd"] == "0.000000000"

    audit = run(gateway, "audit")
    assert audit["ok"] is True
    assert audit["checked"] > 0
