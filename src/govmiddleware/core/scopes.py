"""Scopes: what a limit counts over. One of `Scope`, a tag as `tag:NAME`, or two of them joined by `+`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

ANONYMOUS = "anonymous"
"""The value of user, session, agent and tags where a request names none: it never escapes a limit."""

DEPLOYMENT_WORKSPACE = "*"
"""Where limits over the whole deployment are counted: no workspace has this name."""

TAG = "tag:"
PAIR = "+"

PLAIN_NAME = r"[A-Za-z0-9._-]{1,64}"


class Scope(StrEnum):
    """What a limit counts over: one counter for each value of it.

    All but `deployment` count within a workspace; what is paired with it counts over all workspaces.
    """

    WORKSPACE = "workspace"
    API_TOKEN = "api_token"
    USER = "user"
    SESSION = "session"
    AGENT = "agent"
    MODEL = "model"
    PROVIDER = "provider"
    DEPLOYMENT = "deployment"


Subject = Mapping[str, str]
"""The value of each scope for one call; of tags, those that it has."""


def is_scope(text: str) -> bool:
    """Whether a limit can count over this: `user`, `tag:team`, or a pair such as `user+model`."""
    parts = text.split(PAIR)
    return len(set(parts)) == len(parts) <= 2 and all(_is_single(part) for part in parts)


def is_deployment_wide(scope: str) -> bool:
    """Whether it counts over all workspaces."""
    return Scope.DEPLOYMENT in scope.split(PAIR)


def counts_by_model(scope: str) -> bool:
    """Whether it has a value for calls of models alone, by the model or its provider."""
    return not {Scope.MODEL, Scope.PROVIDER}.isdisjoint(scope.split(PAIR))


def value_in(scope: str, subject: Subject) -> str | None:
    """The value of a scope for a call; None where it has none (a model, where it calls none)."""
    if (value := subject.get(scope)) is not None:
        return value
    if PAIR not in scope:
        return _single_value(scope, subject)
    values = [_single_value(part, subject) for part in scope.split(PAIR)]
    return pair_value(*values) if all(value is not None for value in values) else None


def pair_value(*values: str | None) -> str:
    """The value of a pair: both, with a bar between them, which is escaped in them.

    >>> pair_value("ann", "openai/gpt-4o")
    'ann|openai/gpt-4o'
    """
    return "|".join((value or "").replace("%", "%25").replace("|", "%7C") for value in values)


def subject_of(scope: str, value: str) -> dict[str, str]:
    """The inverse of `value_in`.

    >>> subject_of("user+model", "a%7Cb|m")
    {'user': 'a|b', 'model': 'm'}
    """
    if PAIR not in scope:
        return {scope: value}
    values = (part.replace("%7C", "|").replace("%25", "%") for part in value.split("|"))
    return dict(zip(scope.split(PAIR), values, strict=False))


def _is_single(text: str) -> bool:
    if text.startswith(TAG):
        return re.fullmatch(PLAIN_NAME, text.removeprefix(TAG)) is not None
    return text in list(Scope)


def _single_value(scope: str, subject: Subject) -> str | None:
    return subject.get(scope, ANONYMOUS if scope.startswith(TAG) else None)
