"""`token`: the API tokens of the store."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter
from msgspec.structs import replace

from govmiddleware.app import Governance
from govmiddleware.cli.common import ACTOR, AsJson, Config, Redis, print_json, print_table, with_governance
from govmiddleware.core import ids
from govmiddleware.core.call import Role
from govmiddleware.core.registries import StoredApiToken
from govmiddleware.core.times import parse_duration
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings_fields import check_name, check_workspace

app = App(name="token", help="API tokens: create, list, rotate, import, revoke.")
app.command(
    "govmiddleware.cli.token_import:import_", name="import", help="Bring over keys that people have already."
)


@app.command
def create(
    name: Annotated[str, Parameter(help="What to call it: the value of scope api_token.")],
    /,
    *,
    workspace: Annotated[str, Parameter(help="The tenant it belongs to.")] = "default",
    role: Annotated[
        Role,
        Parameter(help="Kept with it. On the control plane the role of a configured token alone counts."),
    ] = Role.OPERATOR,
    user: Annotated[str | None, Parameter(help="Pin: its calls always count for this user.")] = None,
    agent: Annotated[str | None, Parameter(help="Pin: its calls always count for this agent.")] = None,
    expires_in: Annotated[str | None, Parameter(help="How long it is valid, such as 24h or 90d.")] = None,
    config: Config = None,
    redis: Redis = None,
    json: AsJson = False,
) -> int:
    """Create an API token. The secret is shown once, on standard output; the store keeps its hash."""
    secret = ids.new_api_token()
    now = int(time.time())
    for option, value, check in (
        ("NAME", name, check_name),
        ("--workspace", workspace, check_workspace),
        ("--user", user, check_name),
        ("--agent", agent, check_name),
    ):
        try:
            if value is not None:
                check(value)
        except ValueError as error:
            raise ConfigurationError(option, value, str(error)) from None
    token = StoredApiToken(
        id=ids.new_api_token_id(),
        name=name,
        workspace=workspace,
        role=role.value,
        created_at=now,
        expires_at=None if expires_in is None else now + _seconds("--expires-in", expires_in),
        user=user,
        agent=agent,
    )

    async def add(governance: Governance) -> bool:
        return await governance.api_token_registry.add(token, ids.hash_api_token(secret), actor=ACTOR)

    if not with_governance(add, config, redis):
        print(f"Workspace {workspace} has an API token called {name} already.", file=sys.stderr)
        return 1
    if json:
        print_json({**_shown(token), "secret": secret})
    else:
        print(f"API token {name} of workspace {workspace}. It is shown this once:", file=sys.stderr)
        print(secret)
    return 0


@app.command(name="list")
def list_(*, config: Config = None, redis: Redis = None, json: AsJson = False) -> int:
    """List the API tokens of the store and of the configuration."""

    async def read(governance: Governance) -> list[dict[str, object]]:
        static: list[dict[str, object]] = [
            {
                "id": None,
                "name": token.name,
                "workspace": token.workspace,
                "role": token.role.value,
                "user": token.user,
                "agent": token.agent,
                "tags": token.tags,
                "state": "configured",
                "created_at": None,
                "expires_at": None,
            }
            for token in governance.settings.api_tokens
        ]
        return static + [_shown(token) for token in await governance.api_token_store.list()]

    rows = with_governance(read, config, redis)
    if json:
        print_json(rows)
    else:
        print_table(rows, ["id", "name", "workspace", "role", "user", "agent", "state", "expires_at"])
    return 0


@app.command
def rotate(
    id_or_name: Annotated[str, Parameter(help="Its id, or its name.")],
    /,
    *,
    overlap: Annotated[str, Parameter(help="How long the old secret stays valid: 24h, 7d, or 0m.")] = "24h",
    expires_in: Annotated[
        str | None,
        Parameter(help="How long the new one is valid. Default: as long as the old one was given."),
    ] = None,
    workspace: Annotated[str | None, Parameter(help="Where several have this name.")] = None,
    config: Config = None,
    redis: Redis = None,
    json: AsJson = False,
) -> int:
    """Give an API token a new secret, which is shown once. Both count on the same limits until the old one ends."""
    secret = ids.new_api_token()
    now = int(time.time())
    old_until = now + _seconds("--overlap", overlap, least=0)
    given = None if expires_in is None else _seconds("--expires-in", expires_in)

    async def rotate_it(governance: Governance) -> tuple[StoredApiToken, int] | str:
        token = await _one(governance, id_or_name, workspace)
        if isinstance(token, str):
            return token
        lifetime = given or (token.expires_at and token.expires_at - token.created_at)
        successor = replace(
            token,
            id=ids.new_api_token_id(),
            created_at=now,
            expires_at=now + lifetime if lifetime else None,
        )
        ends_at = await governance.api_token_registry.rotate(
            token, successor, ids.hash_api_token(secret), old_until=old_until, actor=ACTOR
        )
        return successor, ends_at

    rotated = with_governance(rotate_it, config, redis)
    if isinstance(rotated, str):
        print(rotated, file=sys.stderr)
        return 1
    successor, ends_at = rotated
    if json:
        print_json({**_shown(successor), "secret": secret})
    else:
        until = f"ends at {_time(ends_at)}" if ends_at > now else "is revoked"
        print(
            f"API token {successor.name}; its old secret {until}. The new one is shown this once:",
            file=sys.stderr,
        )
        print(secret)
    return 0


@app.command
def revoke(
    id_or_name: Annotated[str, Parameter(help="Its id, or its name.")],
    /,
    *,
    workspace: Annotated[str | None, Parameter(help="Where several have this name.")] = None,
    config: Config = None,
    redis: Redis = None,
) -> int:
    """Revoke an API token: every replica refuses it from its next request on."""

    async def revoke_it(governance: Governance) -> str | None:
        token = await _one(governance, id_or_name, workspace)
        if isinstance(token, str):
            return token
        await governance.api_token_registry.revoke(token, actor=ACTOR)
        return None

    problem = with_governance(revoke_it, config, redis)
    print(problem or f"API token {id_or_name} is revoked.", file=sys.stderr)
    return 1 if problem else 0


async def _one(governance: Governance, id_or_name: str, workspace: str | None) -> StoredApiToken | str:
    """The live API token that is meant, or why there is not one."""
    now = time.time()
    found = [
        token
        for token in await governance.api_token_store.list()
        if token.is_live(now)
        and id_or_name in (token.id, token.name)
        and workspace in (None, token.workspace)
    ]
    match found:
        case [token]:
            return token
        case []:
            return f"There is no active API token {id_or_name} in the store."
        case _:
            return f"{len(found)} API tokens are called {id_or_name}: give its id, or --workspace."


def _seconds(option: str, text: str, *, least: int = 1) -> int:
    try:
        seconds = int(parse_duration(text).total_seconds())
        if seconds < least:
            raise ValueError
    except ValueError:
        expected = "a duration such as 30m, 24h, 7d or 2w, a hundred years at most"
        raise ConfigurationError(option, text, expected) from None
    return seconds


def _shown(token: StoredApiToken) -> dict[str, object]:
    expired = token.expires_at is not None and token.expires_at <= time.time()
    return {
        "id": token.id,
        "name": token.name,
        "workspace": token.workspace,
        "role": token.role,
        "user": token.user,
        "agent": token.agent,
        "tags": dict(token.tags or {}),
        "state": "expired" if token.active and expired else "active" if token.active else "revoked",
        "created_at": _time(token.created_at),
        "expires_at": _time(token.expires_at),
    }


def _time(seconds: int | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    )
