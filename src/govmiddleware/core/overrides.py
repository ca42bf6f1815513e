"""Overrides: a person's time-boxed raise of one limit, asked for by one and approved by others; and the port for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import msgspec

from govmiddleware.core.audit_log import Action
from govmiddleware.core.call import Principal, Role
from govmiddleware.core.limits import Meter, Raise
from govmiddleware.core.scopes import Scope, subject_of

ADMIN = "admin"
"""The name of who has the admin token."""

_API_TOKEN = "api_token:"

SYSTEM = "system"
"""The name of time, which ends what nobody else does."""


class Person(msgspec.Struct, frozen=True):
    """Who asks or decides.

    Attributes:
        name: as the audit log has it: `api_token:NAME`, or `admin` for who has the admin token.
        role: what it may decide in its workspace; None for who has only a link out of a refusal.
        workspace: None for the admin, who owns all.
        user: whom the API token is pinned to.
    """

    name: str
    role: Role | None
    workspace: str | None = None
    user: str | None = None

    @property
    def is_admin(self) -> bool:
        """Of all workspaces."""
        return self.workspace is None

    @property
    def api_token(self) -> str | None:
        """The name of its API token; None for who has none."""
        return self.name.removeprefix(_API_TOKEN) if self.name.startswith(_API_TOKEN) else None

    @classmethod
    def of(cls, principal: Principal) -> Person:
        """Who calls with an API token. The store's tokens decide nothing: that is for those of the configuration."""
        role = principal.role if principal.stored_id is None else Role.OPERATOR
        return cls(_API_TOKEN + principal.api_token, role, principal.workspace, principal.user)

    def is_same(self, name: str, user: str | None) -> bool:
        """Whether that is one and the same person: another API token of the same user is."""
        return name == self.name or (user is not None and user == self.user)

    def decides_in(self, workspace: str) -> bool:
        """Whether it may approve, deny and revoke what concerns this workspace."""
        return self.is_admin or (workspace == self.workspace and self.role in (Role.OWNER, Role.ADMIN))


class OverrideState(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    DENIED = "denied"
    REVOKED = "revoked"
    SPENT = "spent"
    EXPIRED = "expired"  # in force no more, or never decided


class Approval(msgspec.Struct, frozen=True):
    """One person's yes. Times are Unix milliseconds."""

    name: str
    user: str | None
    at_ms: int


class Override(msgspec.Struct, frozen=True):
    """A raise of one limit for one value of its scope.

    Attributes:
        workspace: where the limit's counter lies: `*` for limits over the whole deployment.
        limit, scope, meter, value: the limit when it was asked for, and the value of its scope.
        requester, requester_workspace, requester_user: as in Person.
        for_user: for whom it was asked, where that is somebody else.
        seconds: how long it is in force, from its last approval on.
        decide_by_ms: a request that nobody decided by then has expired.
        approvals_required: 1 or 2, of different people, none of whom asked for it.
        amount: what may be used past the limit, once, in the meter's unit; None where `factor` is given.
        factor: what the limit's hard value is multiplied by while it is in force.
        until_ms: the end of its time; None before it is approved.
    """

    id: str
    workspace: str
    limit: str
    scope: str
    meter: Meter
    value: str
    reason: str
    requester: str
    requester_workspace: str | None
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

    @property
    def raises(self) -> Raise:
        """What it adds to the limit: nothing, for its time is over at once, before it is approved."""
        return Raise(
            id=self.id,
            workspace=self.workspace,
            limit=self.limit,
            scope=self.scope,
            meter=self.meter,
            value=self.value,
            until_ms=self.until_ms or 0,
            amount=self.amount,
            factor=self.factor,
        )

    def is_asked_by(self, person: Person) -> bool:
        return (person.name, person.workspace) == (self.requester, self.requester_workspace)

    def is_for(self, person: Person) -> bool:
        """Whether it was asked for somebody, or raises what binds them by name."""
        bound = subject_of(self.scope, self.value)
        users = {self.for_user, bound.get(Scope.USER)}
        is_users = person.user is not None and person.user in users
        return is_users or (person.api_token is not None and person.api_token == bound.get(Scope.API_TOKEN))

    def is_shown_to(self, person: Person) -> bool:
        return person.decides_in(self.workspace) or self.is_asked_by(person)


Change = Callable[[Override], tuple[Override, Action]]
"""What becomes of an override, and what the audit log says of it. Raises a Refusal to leave it as it is."""


class OverrideStore(Protocol):
    """Every change is one transaction with its entry in the audit log. Every call raises HistoryUnavailable."""

    async def add(self, override: Override, action: Action) -> bool:
        """False where the same requester has an undecided one for the same limit and value."""
        ...

    async def change(self, override_id: str, change: Change) -> Override | None:
        """None where there is none of this id. Of changes at the same time, each sees what the one before it made."""
        ...

    async def find(self, *ids: str) -> Sequence[Override]:
        """Those of these ids that there are."""
        ...

    async def undecided(self, override: Override) -> Override | None:
        """The one that keeps `add` from adding this one."""
        ...

    async def count_undecided(self, requester: str, workspace: str | None) -> int:
        """How many undecided ones somebody has, in the terms of `Override`."""
        ...

    async def list(
        self, *, state: OverrideState | None = None, limit: str | None = None, shown_to: Person | None = None
    ) -> Sequence[Override]:
        """The newest first, at most a thousand."""
        ...

    async def approved(self) -> Sequence[Override]:
        """All that are in force, or whose time has just ended."""
        ...

    async def overdue(self, now_ms: int) -> Sequence[str]:
        """The ids of those whose time to be decided, or to be in force, has ended."""
        ...
