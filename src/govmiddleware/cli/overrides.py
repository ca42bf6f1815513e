"""`override`: a person's raise of a limit, asked for by one and approved by others."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated

from cyclopts import App, Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import AsJson, Config, Redis, print_json, print_table, with_governance
from govmiddleware.core.overrides import Override, OverrideState, Person
from govmiddleware.core.refusals import InvalidRequest, Refusal, Unavailable
from govmiddleware.core.times import parse_duration
from govmiddleware.errors import ConfigurationError, StoreUnavailable
from govmiddleware.services.overrides import OverrideRequest

app = App(
    name="override",
    help="Raise a limit for a while: request, list, approve, deny, revoke. You are who GOV_TOKEN says.",
)

Id = Annotated[str, Parameter(help="The override's id.")]
Reason = Annotated[str | None, Parameter(help="Why; for the audit log.")]

_COLUMNS = ["id", "state", "limit", "value", "amount", "factor", "used", "requester", "until", "reason"]

_OPTIONS = {
    "amount": "--amount",
    "factor": "--factor",
    "seconds": "--lasting",
    "value": "--value",
    "for_user": "--for-user",
    "workspace": "--workspace",
    "reason": "--reason",
}
"""By the field of a request."""

Work = Callable[[Governance, Person], Awaitable[Sequence[Override]]]


@app.command
def request(
    limit: Annotated[str, Parameter(help="The limit's name.")],
    /,
    *,
    reason: Annotated[str, Parameter(help="Why.")],
    amount: Annotated[
        str | None, Parameter(help="How much more may be used, once: USD, or what it counts.")
    ] = None,
    factor: Annotated[str | None, Parameter(help="What the limit is multiplied by, such as 1.5.")] = None,
    lasting: Annotated[str, Parameter(help="How long, from the approval on: 30m, 24h, 7d.")] = "24h",
    value: Annotated[str | None, Parameter(help="Of the limit's scope; your own where it is known.")] = None,
    for_user: Annotated[str | None, Parameter(help="For whom, if it is not for you.")] = None,
    workspace: Annotated[str | None, Parameter(help="With the admin token: for which one.")] = None,
    config: Config = None,
    redis: Redis = None,
    json: AsJson = False,
) -> int:
    """Ask for an override."""
    try:
        seconds = int(parse_duration(lasting).total_seconds())
    except ValueError as error:
        raise ConfigurationError("--lasting", lasting, "a duration such as 30m, 24h or 7d") from error
    asked = OverrideRequest(
        seconds=seconds,
        reason=reason,
        amount=_number("--amount", amount),
        factor=_number("--factor", factor),
        value=value,
        for_user=for_user,
        workspace=workspace,
    )

    async def ask(governance: Governance, person: Person) -> list[Override]:
        return [await governance.overrides.request(limit, asked, person)]

    return _one(ask, config, redis, json)


@app.command(name="list")
def list_(
    *,
    state: Annotated[OverrideState | None, Parameter(help="Only those that are so.")] = None,
    limit: Annotated[str | None, Parameter(help="Only those of this limit.")] = None,
    config: Config = None,
    redis: Redis = None,
    json: AsJson = False,
) -> int:
    """List the overrides of your workspace, if you decide there, or else those that you asked for."""

    async def read(governance: Governance, person: Person) -> Sequence[Override]:
        return await governance.overrides.list(person, state=state, limit=limit)

    rows = _run(read, config, redis)
    if rows is None:
        return 1
    if json:
        print_json(rows)
    else:
        print_table(rows, _COLUMNS)
    return 0


@app.command
def approve(
    id: Id, /, *, reason: Reason = None, config: Config = None, redis: Redis = None, json: AsJson = False
) -> int:
    """Say yes to an override that others asked for."""

    async def decide(governance: Governance, person: Person) -> list[Override]:
        return [await governance.overrides.approve(id, person, reason)]

    return _one(decide, config, redis, json)


@app.command
def deny(
    id: Id, /, *, reason: Reason = None, config: Config = None, redis: Redis = None, json: AsJson = False
) -> int:
    """Say no to an override; one that you asked for, you take back so."""

    async def decide(governance: Governance, person: Person) -> list[Override]:
        return [await governance.overrides.deny(id, person, reason)]

    return _one(decide, config, redis, json)


@app.command
def revoke(
    id: Id, /, *, reason: Reason = None, config: Config = None, redis: Redis = None, json: AsJson = False
) -> int:
    """End an override that is in force: nothing passes by it any more."""

    async def decide(governance: Governance, person: Person) -> list[Override]:
        return [await governance.overrides.revoke(id, person, reason)]

    return _one(decide, config, redis, json)


def _one(work: Work, config: Config, redis: Redis, json: bool) -> int:
    rows = _run(work, config, redis)
    if rows is None:
        return 1
    [shown] = rows
    if json:
        print_json(shown)
    else:
        needs = f", by {shown['approvals_required']} people" if shown["approvals_required"] != 1 else ""
        print(f"Override {shown['id']} of {shown['subject']} is {shown['state']}{needs}.")
    return 0


def _run(work: Work, config: Config, redis: Redis) -> Sequence[dict[str, object]] | None:
    """What came of it, as JSON shows it; None where the answer is no, which is said."""
    secret = os.environ.get("GOV_TOKEN")
    if not secret:
        raise ConfigurationError(
            "GOV_TOKEN", secret, "your API token, or the admin token: it says who you are"
        )

    async def identified(governance: Governance) -> Sequence[dict[str, object]]:
        person = await governance.people.identify(secret, "command line")
        return await governance.overrides.shown(await work(governance, person))

    try:
        return with_governance(identified, config, redis)
    except InvalidRequest as error:
        raise ConfigurationError(_OPTIONS.get(error.param or "", "request"), None, str(error)) from error
    except Unavailable as error:
        raise StoreUnavailable(str(error)) from error
    except Refusal as refusal:
        print(f"govmiddleware: {refusal} ({refusal.code})", file=sys.stderr)
        return None


def _number(option: str, text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        raise ConfigurationError(option, text, "a number") from None
