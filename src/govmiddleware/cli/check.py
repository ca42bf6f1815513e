"""`check`: is this configuration right?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from govmiddleware.app import Governance
from govmiddleware.cli.common import AsJson, Config, print_json, print_table
from govmiddleware.core.limits import Mode
from govmiddleware.core.providers import Provider, provider_for
from govmiddleware.settings import Settings, UpstreamSettings, load, stray_variables


def check(*, config: Config = None, json: AsJson = False) -> int:
    """Validate a configuration offline: nothing is connected to, nothing started."""
    settings = load(config)
    governance = Governance(settings)
    upstreams = [
        _shown(upstream, settings, f"upstreams[{index}]")
        for index, upstream in enumerate(settings.all_upstreams)
        if settings.upstreams or upstream.url is not None
    ]
    unreached = list(_unreached(governance.providers))
    stray = stray_variables()
    if json:
        print_json(
            {
                "ok": True,
                "limits": len(settings.limits),
                "mode": settings.mode.value,
                "api_tokens": len(settings.api_tokens),
                "prices": len(settings.prices),
                "upstreams": upstreams,
                "unreached_models": unreached,
                "stray_variables": stray,
            }
        )
        return 0
    print(
        f"ok: {len(settings.limits)} limits, {len(settings.api_tokens)} API tokens,"
        f" {len(settings.prices)} prices, {len(upstreams)} upstreams"
    )
    if upstreams:
        print()
        rows = [{**each, "models": " ".join(cast("list[str]", each["models"]))} for each in upstreams]
        print_table(rows, list(rows[0]))
        print()
    if settings.mode is not Mode.ENFORCED:
        print(f"note: mode = {settings.mode.value!r}: no limit refuses anything")
    for each in unreached:
        print("note: no model of {models} reaches {upstream}: {taken_by} comes first".format(**each))
    for name in stray:
        print(f"note: {name} is in the environment, and there is no setting of this name")
    return 0


def _shown(upstream: UpstreamSettings, settings: Settings, key: str) -> dict[str, object]:
    """An upstream as it will be used. Raises ConfigurationError as `UpstreamSettings.credential`."""
    credential = "none"
    if upstream.credential(key) is not None:
        credential = upstream.api_key_env or "configured"
    if (upstream.auth or settings.upstream_auth) == "forward":
        credential = "the client's"
    return {
        "name": upstream.name,
        "url": upstream.url,
        "models": list(upstream.models or "*"),
        "credential": credential,
        "connect_timeout": upstream.connect_timeout or settings.connect_timeout,
        "first_byte_timeout": upstream.first_byte_timeout or settings.first_byte_timeout,
        "idle_timeout": upstream.idle_timeout or settings.idle_timeout,
        "max_connections": upstream.max_connections,
    }


def _unreached(providers: Sequence[Provider]) -> Iterator[dict[str, str]]:
    """Globs all of whose models an upstream before them takes."""
    for index, provider in enumerate(providers):
        for glob in provider.models or "*":
            # A glob that matches another as a text matches what that one matches. A star counts twice, lest
            # a `?` passes for it.
            earlier = provider_for(glob.replace("*", "**"), providers[:index])
            if earlier is not None:
                yield {"models": glob, "upstream": provider.name, "taken_by": earlier.name}
