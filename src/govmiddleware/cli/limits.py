"""`limit`: the limits in force."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import AsJson, Config, Redis, print_json, print_table, with_governance
from govmiddleware.core.limits import Limit
from govmiddleware.services.records import amount_shown
from govmiddleware.settings import load

app = App(name="limit", help="Limits: list, show.")

_COLUMNS = ["name", "scope", "value", "meter", "window", "soft", "hard", "mode", "workspace"]


@app.command(name="list")
def list_(*, config: Config = None, json: AsJson = False) -> int:
    """List the limits of the configuration."""
    rows = [_shown(limit) for limit in load(config).all_limits]
    if json:
        print_json(rows)
    else:
        print_table(rows, _COLUMNS)
    return 0


@app.command
def show(
    name: Annotated[str, Parameter(help="The limit's name.")],
    /,
    *,
    config: Config = None,
    redis: Redis = None,
    json: AsJson = False,
) -> int:
    """Show a limit, and where each of its counters stands."""
    limit = next((found for found in load(config).all_limits if found.name == name), None)
    if limit is None:
        print(f"There is no limit called {name}.", file=sys.stderr)
        return 1

    async def read(governance: Governance) -> list[dict[str, object]]:
        return [state for state in await governance.usage.limit_states() if state["name"] == name]

    counters = with_governance(read, config, redis)
    if json:
        print_json({**_shown(limit), "counters": counters})
    else:
        print_table([_shown(limit)], _COLUMNS)
        print()
        print_table(counters, ["value", "used", "reserved", "remaining", "resets_at"])
    return 0


def _shown(limit: Limit) -> dict[str, object]:
    return {
        "name": limit.name,
        "scope": limit.scope,
        "value": limit.value,
        "meter": limit.meter.value,
        "window": limit.window.name,
        "soft": None if limit.soft is None else amount_shown(limit.meter, limit.soft),
        "hard": amount_shown(limit.meter, limit.hard),
        "mode": limit.mode.value,
        "default": limit.is_default,
        "workspace": limit.workspace,
    }
