"""`demo`: the main job, on this machine alone."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
from cyclopts import Parameter
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from govmiddleware.app import Governance
from govmiddleware.cli.common import print_table
from govmiddleware.core import ids
from govmiddleware.core.call import Role
from govmiddleware.core.limits import Meter
from govmiddleware.core.scopes import Scope
from govmiddleware.errors import ConfigurationError
from govmiddleware.services.audit import Findings, audit
from govmiddleware.settings import ApiTokenSettings, Settings
from govmiddleware.settings_limits import LimitSettings
from govmiddleware.sidecar import Sidecar

if TYPE_CHECKING:
    from govmiddleware.testing import ScriptedProvider

_LIMITS = (
    LimitSettings(name="token-minute", scope=Scope.API_TOKEN, meter=Meter.REQUESTS, rate="10/minute"),
    LimitSettings(
        name="user-month", scope=Scope.USER, meter=Meter.COST_USD, window="month", hard=Decimal("0.0003")
    ),
    LimitSettings(name="slots", scope=Scope.API_TOKEN, meter=Meter.CONCURRENCY, hard=Decimal(8)),
)
_STORY = " ".join(["word"] * 250)
_PROMPT = "Say in one sentence why a budget should be reserved before the call and settled after it."


def demo(
    *,
    stay: Annotated[bool, Parameter(negative="", help="Keep running afterwards, to try it by hand.")] = False,
) -> int:
    """Embedded store, built-in mock provider, sample traffic, a table; then it ends."""
    try:
        from govmiddleware.testing import ScriptedProvider, serve_in_thread
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "demo", f"{error.name} is missing", "the server extra: pip install 'govmiddleware[server]'"
        ) from None
    secret = ids.new_api_token()
    provider = ScriptedProvider()
    with (
        tempfile.TemporaryDirectory(prefix="govmiddleware-demo-") as data_dir,
        serve_in_thread(provider) as upstream,
        serve_in_thread(
            Sidecar(Governance(settings := _settings(upstream.url, secret, Path(data_dir))))
        ) as sidecar,
        httpx.Client(
            base_url=sidecar.url, headers={"authorization": f"Bearer {secret}"}, timeout=10
        ) as client,
    ):
        print("One Valkey, one mock provider, one sidecar between them, and three limits:\n")
        print_table([_limit(limit) for limit in _LIMITS], ["name", "scope", "meter", "limit"])
        print("\nSome traffic (POST /v1/chat/completions):\n")
        print_table([dict(row) for row in _traffic(client, provider)], ["call", "user", "status", "answer"])
        print("\nWhat the journal says (GET /gov/api/v1/usage?by=user):\n")
        _show_usage(client)
        print("\nDo the books balance (govmiddleware audit)?\n")
        findings = asyncio.run(_audit(settings))
        print(f"{'ok' if findings.ok else 'NOT OK'}: {findings.checked} buckets of counters checked")
        if stay:
            _stay(sidecar.url, secret)
    return 0


class _DemoSettings(Settings):
    """Nothing but what stands here, whatever `GOV_…` says: a demo must not touch the real thing."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _settings(upstream: str, secret: str, data_dir: Path) -> Settings:
    token = ApiTokenSettings(
        name="demo", workspace="demo", sha256=ids.hash_api_token(secret), role=Role.ADMIN
    )
    return _DemoSettings(
        upstream=upstream, redis_url="embedded", data_dir=data_dir, api_tokens=(token,), limits=_LIMITS
    )


def _limit(limit: LimitSettings) -> Mapping[str, object]:
    allowed = limit.rate or (f"{limit.hard} a {limit.window}" if limit.window else f"{limit.hard} at a time")
    return {"name": limit.name, "scope": limit.scope, "meter": limit.meter, "limit": allowed}


def _traffic(client: httpx.Client, provider: ScriptedProvider) -> Iterator[Mapping[str, object]]:
    """Answers, a stream, a budget that holds a call to what it affords and then runs out, a rate that is too high, a bad token."""
    yield _call(client, "chat", "ann")
    yield _call(client, "chat, streamed", "ann", stream=True)
    short = provider.script
    provider.script = replace(short, text=_STORY)
    for _ in range(3):
        yield _call(client, "chat, a long story", "bob", max_tokens=400)
    provider.script = short
    yield _call(client, "chat, unpriced model", "bob", model="no-such-model")
    yield _call(client, "chat, bad token", "eve", headers={"authorization": "Bearer gov_wrong"})
    for _ in range(8):
        yield _call(client, "chat, in a hurry", "cem")


def _call(
    client: httpx.Client,
    name: str,
    user: str,
    *,
    model: str = "gpt-4o-mini",
    stream: bool = False,
    max_tokens: int = 60,
    headers: Mapping[str, str] | None = None,
) -> Mapping[str, object]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": max_tokens,
        "stream": stream,
    }
    answer = client.post("/v1/chat/completions", json=body, headers={"x-gov-user": user, **(headers or {})})
    return {"call": name, "user": user, "status": answer.status_code, "answer": _gist(answer)}


def _gist(answer: httpx.Response) -> str:
    if answer.headers["content-type"].startswith("text/event-stream"):
        return f"{answer.text.count('data: ')} events"
    body = answer.json()
    if "error" in body:
        return f"{body['error']['code']}: {body['error']['message']}"[:96] + "…"
    left = answer.headers.get("x-gov-budget-remaining-usd")
    held = answer.headers.get("x-gov-max-output-tokens")
    return f"{body['usage']['total_tokens']} tokens; budget left {left} USD" + (
        f"; held to {held} of output" if held else ""
    )


async def _audit(settings: Settings) -> Findings:
    async with Governance(settings).store() as governance:
        return await audit(governance.journal, governance.history)


def _show_usage(client: httpx.Client) -> None:
    report = client.get("/gov/api/v1/usage", params={"by": "user"}).json()
    rows = [*report["groups"], {"id": "TOTAL", **report["totals"]}]
    print_table(
        rows, ["id", "requests", "refused", "input_tokens", "output_tokens", "cost_usd", "reserved_usd"]
    )
    print()
    print_table(report["limits"], ["name", "value", "used", "reserved", "hard", "remaining", "resets_at"])


def _stay(url: str, secret: str) -> None:
    print(f"""
Try it, and end it with Ctrl-C:

  curl {url}/v1/chat/completions -H 'authorization: Bearer {secret}' -H 'x-gov-user: dan' \\
    -d '{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 20}}'
  curl {url}/gov/api/v1/usage -H 'authorization: Bearer {secret}'
  curl {url}/gov/metrics
""")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
