"""API tokens out of rows: in our own columns, or in those of LiteLLM's table of virtual keys."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from govmiddleware.cli.rows import Row
from govmiddleware.core import ids
from govmiddleware.core.call import Role
from govmiddleware.core.registries import StoredApiToken
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings_errors import HIDDEN
from govmiddleware.settings_fields import check_name, check_workspace

COLUMNS = ("name", "sha256", "secret", "workspace", "role", "user", "agent", "tags", "expires_at", "state")

_SHA256 = r"[0-9a-fA-F]{64}"
_MOST_TAGS = 16
_IN_FORCE = ("active", "configured")
"""States, as `token list --json` has them."""

_LITELLM_UI = "litellm-dashboard"
"""The team of the keys that LiteLLM's own pages make for their sessions."""
_LITELLM_NOBODY = "default_user_id"


class TokenRow(msgspec.Struct, frozen=True):
    """An API token that a row stands for.

    Attributes:
        skipped: why it is not to be imported; None where it is.
    """

    where: str
    token: StoredApiToken
    sha256: str
    skipped: str | None = None


def read_tokens(rows: Sequence[Row], *, workspace: str, role: Role) -> list[TokenRow]:
    """Checks all of them. Args: workspace, role: of rows that do not say.

    Raises ConfigurationError with all that is wrong as its notes; no secret and no hash is in it.
    """
    read: list[TokenRow] = []
    errors: list[ConfigurationError] = []
    seen: dict[object, str] = {}
    for row in rows:
        try:
            found = _litellms(row, workspace, role) if "token" in row.fields else _ours(row, workspace, role)
            if found.skipped is None:
                # The hash first: the same row twice is told as that.
                for key, what in (
                    (found.sha256, "secret"),
                    ((found.token.workspace, found.token.name), "name"),
                ):
                    if key in seen:
                        shown = HIDDEN if what == "secret" else found.token.name
                        raise ConfigurationError(
                            f"{row.where}: {what}", shown, f"another one than {seen[key]} has"
                        )
                    seen[key] = row.where
            read.append(found)
        except ConfigurationError as error:
            errors.append(error)
    if errors:
        for other in errors[1:]:
            errors[0].add_note(str(other))
        raise errors[0]
    return read


def _ours(row: Row, workspace: str, role: Role) -> TokenRow:
    if unknown := [column for column in row.fields if column not in COLUMNS]:
        # Without a header the first line would be taken for it, and that may hold a secret.
        shown = unknown[0] if re.fullmatch("[a-z_]{1,20}", unknown[0]) else HIDDEN
        raise ConfigurationError(f"{row.where}: column", shown, f"one of {', '.join(COLUMNS)}")
    if ("sha256" in row.fields) == ("secret" in row.fields):
        raise ConfigurationError(f"{row.where}: sha256", None, "the hash of the secret, or the column secret")
    secret = row.text("secret")
    sha256 = ids.hash_api_token(secret) if secret else _hash(row, "sha256")
    name = row.text("name")
    if name is None:
        raise ConfigurationError(f"{row.where}: name", None, "a value; it is required")
    state = row.text("state") or _IN_FORCE[0]
    skipped = None if state in _IN_FORCE else state
    return _token(
        row, sha256, name, workspace, role, user="user", agent="agent", expires="expires_at", skipped=skipped
    )


def _litellms(row: Row, workspace: str, role: Role) -> TokenRow:
    """A row of LiteLLM_VerificationToken: `token` is the SHA-256 of a key that begins with `sk-`, else the key.

    Source: litellm/proxy/schema.prisma and hash_token_if_needed, 1.106.
    """
    sha256, name = litellm_key(row)
    skipped = "blocked in LiteLLM" if row.flag("blocked") else None
    if row.text("team_id") == _LITELLM_UI:
        skipped = "a session of LiteLLM's pages"
    return _token(
        row,
        sha256,
        name,
        workspace,
        role,
        user="user_id",
        agent="agent_id",
        expires="expires",
        skipped=skipped,
    )


def litellm_key(row: Row) -> tuple[str, str]:
    """The SHA-256 of a virtual key of LiteLLM's, and what it is called here."""
    key = row.text("token") or ""
    sha256 = key.lower() if re.fullmatch(_SHA256, key) else ids.hash_api_token(key)
    return sha256, row.text("key_alias") or f"litellm-{sha256[:8]}"


def _token(
    row: Row,
    sha256: str,
    name: str,
    workspace: str,
    role: Role,
    *,
    user: str,
    agent: str,
    expires: str,
    skipped: str | None,
) -> TokenRow:
    """Args: user, agent, expires: the names of the columns."""
    expires_at = _moment(row, expires)
    if skipped is None and expires_at is not None and expires_at <= time.time():
        skipped = "expired"
    pinned = _checked(row, user, check_name)
    token = StoredApiToken(
        id=ids.new_api_token_id(),
        name=_checked(row, "name", check_name, name) or "",
        workspace=_checked(row, "workspace", check_workspace) or workspace,
        role=(_checked(row, "role", Role) or role).lower(),
        created_at=int(time.time()),
        expires_at=expires_at,
        user=None if pinned == _LITELLM_NOBODY else pinned,
        agent=_checked(row, agent, check_name),
        tags=_tags(row) or None,
    )
    return TokenRow(row.where, token, sha256, skipped)


def _checked(row: Row, column: str, check: Callable[[str], str], given: str | None = None) -> str | None:
    value = given or row.text(column)
    try:
        return None if value is None else check(value)
    except ValueError as error:
        expected = f"one of {', '.join(Role)}" if column == "role" else str(error)
        raise ConfigurationError(f"{row.where}: {column}", value, expected) from None


def _hash(row: Row, column: str) -> str:
    text = row.text(column) or ""
    if not re.fullmatch(_SHA256, text):
        raise ConfigurationError(
            f"{row.where}: {column}", HIDDEN, "64 hexadecimal digits, the SHA-256 of the secret"
        )
    return text.lower()


def _moment(row: Row, column: str) -> int | None:
    text = row.text(column)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        # PostgreSQL's columns without a zone, which LiteLLM has, are in UTC.
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{row.where}: {column}", text, "a time, such as 2026-12-31T00:00:00Z"
        ) from None


def _tags(row: Row) -> dict[str, str]:
    """`team=search,env=prod`, or a JSON object. LiteLLM's team and organization are tags here."""
    given = row.fields.get("tags")
    if "token" in row.fields:
        columns = {"team": "team_id", "organization": "organization_id"}
        pairs = [(tag, value) for tag, column in columns.items() if (value := row.text(column))]
    elif isinstance(given, dict):
        pairs = [(str(key), str(value)) for key, value in given.items()]
    else:
        words = [word.partition("=") for word in (row.text("tags") or "").split(",") if word.strip()]
        pairs = [(key.strip(), value.strip()) for key, _, value in words]
    try:
        if len(pairs) > _MOST_TAGS:
            raise ValueError(f"at most {_MOST_TAGS} of them")
        return {check_name(key): check_name(value) for key, value in pairs}
    except ValueError as error:
        raise ConfigurationError(
            f"{row.where}: tags", dict(pairs), f"team=search,env=prod: {error}"
        ) from None
