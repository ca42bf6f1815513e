"""`limit`: the limits in force, and those of the store to be changed."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import ACTOR, AsJson, Config, Redis, print_json, print_table, with_governance
from govmiddleware.core.refusals import LimitIsConfigured
from govmiddleware.errors import ConfigurationError
from govmiddleware.services.limits import RegisteredLimit
from govmiddleware.services.records import amount_shown

app = App(name="limit", help="Limits: set, list, show, delete, import.")
app.command("govmiddleware.cli.limit_import:import_", name="import", help="Print LiteLLM's limits as ours.")

Name = Annotated[str, Parameter(help="The limit's name.")]

_COLUMNS = [
    "name",
    "scope",
    "value",
    "default",
    "workspace",
    "meter",
    "window",
    "soft",
    "hard",
    "mode",
    "source",
]

_OPTIONS = {"name": "NAME", "limit": "limit", "approvals_required": "--approvals-required"}
"""By the field, where that is not `--FIELD`: the argument, and all of them together."""


@app.command(name="set")
def set_(
    name: Name,
    /,
    *,
    scope: Annotated[
        list[str], Parameter(help="What it counts over, or twice for a pair: user, tag:NAME, …")
    ],
    meter: Annotated[str, Parameter(help="What it counts: requests, cost_usd, …")],
    rate: Annotated[str | None, Parameter(help="So many in a sliding window: 60/minute.")] = None,
    window: Annotated[
        str | None, Parameter(help="hour, day, week, month, lifetime or so many days: 30d.")
    ] = None,
    hard: Annotated[str | None, Parameter(help="What it allows in the window.")] = None,
    soft: Annotated[str | None, Parameter(help="From where on it warns.")] = None,
    value: Annotated[
        list[str] | None, Parameter(help="The one value that it binds; of a pair, both.")
    ] = None,
    default: Annotated[
        bool, Parameter(negative="", help="Bind the values that no other limit names.")
    ] = False,
    timezone: Annotated[str | None, Parameter(help="Of the window: Europe/Berlin.")] = None,
    anchor: Annotated[str | None, Parameter(help="A date that a window of days begins with.")] = None,
    workspace: Annotated[str | None, Parameter(help="The one workspace that it binds.")] = None,
    mode: Annotated[str | None, Parameter(help="enforced, dry_run or suggest.")] = None,
    approvals_required: Annotated[int | None, Parameter(help="Of how many people, for overrides.")] = None,
    config: Config = None,
    redis: Redis = None,
    json: AsJson = False,
) -> int:
    """Create a limit in the store, or replace it. Calls fall under it within two seconds."""
    given: dict[str, object] = {
        "name": name,
        "scope": "+".join(scope),
        "meter": meter,
        "rate": rate,
        "window": window,
        "hard": hard,
        "soft": soft,
        "value": value[0] if value and len(value) == 1 else value or None,
        "default": default,
        "timezone": timezone,
        "anchor": anchor,
        "workspace": workspace,
        "mode": mode,
        "approvals_required": approvals_required,
    }
    fields = {option: text for option, text in given.items() if text is not None}

    async def put(governance: Governance) -> tuple[RegisteredLimit, bool]:
        try:
            return await governance.limits.put(fields, actor=ACTOR)
        except ConfigurationError as error:
            raise _by_option(error) from None

    try:
        limit, created = with_governance(put, config, redis)
    except LimitIsConfigured as error:
        print(error, file=sys.stderr)
        return 1
    if json:
        print_json(_shown(limit))
    print(f"Limit {name} is {'created' if created else 'replaced'}.", file=sys.stderr)
    return 0


@app.command
def delete(name: Name, /, *, config: Config = None, redis: Redis = None) -> int:
    """Delete a limit of the store. What it counted is kept, for one that counts the same later."""

    async def delete_it(governance: Governance) -> bool:
        return await governance.limits.delete(name, actor=ACTOR)

    try:
        deleted = with_governance(delete_it, config, redis)
    except LimitIsConfigured as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"Limit {name} is deleted." if deleted else f"There is no limit called {name} in the store.",
        file=sys.stderr,
    )
    return 0 if deleted else 1


@app.command(name="list")
def list_(*, config: Config = None, redis: Redis = None, json: AsJson = False) -> int:
    """List the limits of the configuration and of the store."""

    async def read(governance: Governance) -> list[RegisteredLimit]:
        return await governance.limits.all()

    rows = [_shown(limit) for limit in with_governance(read, config, redis)]
    if json:
        print_json(rows)
    else:
        print_table(rows, _COLUMNS)
    return 0


@app.command
def show(name: Name, /, *, config: Config = None, redis: Redis = None, json: AsJson = False) -> int:
    """Show a limit, and where each of its counters stands."""

    async def read(governance: Governance) -> tuple[RegisteredLimit | None, list[dict[str, object]]]:
        limit = await governance.limits.find(name)
        states = await governance.usage.limit_states() if limit else []
        return limit, [state for state in states if state["name"] == name]

    limit, counters = with_governance(read, config, redis)
    if limit is None:
        print(f"There is no limit called {name}.", file=sys.stderr)
        return 1
    if json:
        print_json({**_shown(limit), "counters": counters})
    else:
        print_table([_shown(limit)], _COLUMNS)
        print()
        print_table(counters, ["value", "used", "reserved", "remaining", "resets_at"])
    return 0


def _by_option(error: ConfigurationError) -> ConfigurationError:
    """A mistake in a field, told by the option that brought it."""
    told = ConfigurationError(_OPTIONS.get(error.key, f"--{error.key}"), error.value, error.expected)
    for note in getattr(error, "__notes__", ()):
        told.add_note(f"--{note}")
    return told


def _shown(registered: RegisteredLimit) -> dict[str, object]:
    limit = registered.limit
    return {
        "name": limit.name,
        "scope": limit.scope,
        "value": limit.value,
        "default": limit.is_default,
        "workspace": limit.workspace,
        "meter": limit.meter.value,
        "window": limit.window.name,
        "soft": None if limit.soft is None else amount_shown(limit.meter, limit.soft),
        "hard": amount_shown(limit.meter, limit.hard),
        "mode": limit.mode.value,
        "approvals_required": limit.approvals_required,
        "source": registered.source,
    }
