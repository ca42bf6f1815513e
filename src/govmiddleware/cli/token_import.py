"""`token import`: keys that people have already, so that they keep them."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import ACTOR, AsJson, Config, Redis, print_json, print_table, with_governance
from govmiddleware.cli.rows import read_rows
from govmiddleware.cli.token_rows import TokenRow, read_tokens
from govmiddleware.core.call import Role
from govmiddleware.core.times import rfc3339
from govmiddleware.errors import ConfigurationError
from govmiddleware.services.api_token_registry import Imported
from govmiddleware.settings_fields import check_workspace

_COLUMNS = ["where", "name", "workspace", "role", "user", "agent", "expires_at", "result"]
_SAID = {
    Imported.KNOWN: "known already",
    Imported.REVOKED: "revoked here",
    Imported.NAME_TAKEN: "name is taken",
}


def import_(
    file: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="CSV, JSON lines or JSON; - for standard input.")
    ],
    /,
    *,
    workspace: Annotated[str, Parameter(help="Of rows that name none.")] = "default",
    role: Annotated[Role, Parameter(help="Of rows that name none.")] = Role.OPERATOR,
    dry_run: Annotated[bool, Parameter(negative="", help="Say what would be done, and do nothing.")] = False,
    config: Config = None,
    redis: Redis = None,
    json: AsJson = False,
) -> int:
    """Bring API tokens over, by the SHA-256 of their secrets, so that people keep their keys.

    Columns: name, sha256 (or secret, which is hashed and never shown), and as one likes workspace, role, user, agent,
    tags (team=search,env=prod), expires_at, state. Or LiteLLM's table LiteLLM_VerificationToken as it is. What is not
    active there is skipped, what is known here stays as it is: it can be run again. A mistake anywhere, or a name
    that another key has, and nothing is imported.
    """
    try:
        check_workspace(workspace)
    except ValueError as error:
        raise ConfigurationError("--workspace", workspace, str(error)) from None
    rows = read_tokens(read_rows(file), workspace=workspace, role=role)
    wanted = [row for row in rows if row.skipped is None]

    async def bring(governance: Governance) -> list[Imported]:
        tokens = [(row.token, row.sha256) for row in wanted]
        return await governance.api_token_registry.bring(tokens, actor=ACTOR, dry_run=dry_run)

    results = dict(zip(map(id, wanted), with_governance(bring, config, redis), strict=True))
    is_refused = Imported.NAME_TAKEN in results.values()
    shown = [_shown(row, results.get(id(row)), is_done=not (dry_run or is_refused)) for row in rows]
    if json:
        print_json(shown)
    elif shown:
        print_table(shown, _COLUMNS)
    created = sum(result is Imported.CREATED for result in results.values())
    if is_refused:
        print(
            "Nothing is imported: rename those whose names are taken, or revoke the others.", file=sys.stderr
        )
        return 1
    print(
        f"{created} API tokens {'would be' if dry_run else 'are'} imported, {len(rows) - created} left out.",
        file=sys.stderr,
    )
    return 0


def _shown(row: TokenRow, result: Imported | None, *, is_done: bool) -> dict[str, object]:
    if result is None:
        said = f"skipped: {row.skipped}"
    elif result is Imported.CREATED:
        said = "imported" if is_done else "to be imported"
    else:
        said = _SAID[result]
    token = row.token
    return {
        "where": row.where,
        "name": token.name,
        "workspace": token.workspace,
        "role": token.role,
        "user": token.user,
        "agent": token.agent,
        "tags": dict(token.tags or {}),
        "expires_at": None if token.expires_at is None else rfc3339(token.expires_at * 1000),
        "result": said,
    }
