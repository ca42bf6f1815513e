"""Overrides: a person's time-boxed raise of one limit, asked for by one and approved by others."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from govmiddleware.core.call import Role


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks or decides.

    Attributes:
        name: as the audit log has it: `api_token:NAME`, or `admin` for who has the admin token.
        role: None for who has only a link out of a refusal.
        workspace: None for the admin, who owns all.
        user: whom the API token is pinned to.
    """

    name: str
    role: Role | None
    workspace: str | None = None
    user: str | None = None

    def is_same(self, name: str, user: str | None) -> bool:
        """Whether that is one and the same person: another API token of the same user is."""
        return name == self.name or (user is not None and user == self.user)


class OverrideState(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    DENIED = "denied"
    REVOKED = "revoked"
    SPENT = "spent"
    EXPIRED = "expired"  # in force no more, or never decided


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's yes. Times are Unix milliseconds."""

    name: str
    user: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Override:
    """A raise of one limit for one value of its scope.

    Attributes:
        limit, value: the name of the limit, and the value of its scope.
        amount: what may be used past the limit, once, in the meter's unit; None where `factor` is given.
        factor: what the limit's hard value is multiplied by while it is in force.
        requester, requester_user: as in Person.
        for_user: for whom it was asked, where that is somebody else.
        seconds: how long it is in force, from its last approval on.
        decide_by_ms: a request that nobody decided by then has expired.
        approvals_required: 1 or 2, of different people, none of whom asked for it.
        until_ms: the end of its time; None before it is approved.
    """

    id: str
    workspace: str
    limit: str
    value: str
    reason: str
    requester: str
    requester_user: str | None
    for_user: str | None
    requested_at_ms: int
    seconds: int
    decide_by_ms: int
    approvals_required: int
    amount: int | None = None
    factor: Decimal | None = None
    approvals: tuple[Approval, ...] = ()
    state: OverrideState = OverrideState.REQUESTED
    until_ms: int | None = None

    @property
    def subject(self) -> str:
        """What the audit log and approvers know it by."""
        return f"usage-budget:{self.limit}:{self.value}"
