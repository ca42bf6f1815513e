"""Resets: what the current window of a limit has used is taken back, on an owner's word."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from govmiddleware.core.adjustments import Action, Adjusted, Adjustment, Adjustments
from govmiddleware.core.attribution import is_too_long
from govmiddleware.core.audit_log import Action as Audited
from govmiddleware.core.audit_log import AuditLog
from govmiddleware.core.call import Role
from govmiddleware.core.history import History
from govmiddleware.core.journal import Journal
from govmiddleware.core.limits import Counter, Limit, Meter, Mode
from govmiddleware.core.overrides import Person
from govmiddleware.core.refusals import Forbidden, InvalidRequest, LimitNotFound
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE, PAIR, is_deployment_wide, pair_value
from govmiddleware.services import records
from govmiddleware.services.history import all_workspaces
from govmiddleware.services.limits import LimitRegistry
from govmiddleware.services.records import Record, amount_shown

_LONGEST_VALUE = 1024
"""Characters: two names, escaped."""


class UsageReset:
    """Resets counters. What a reset takes back stands in the journal, as negative amounts, and who did it in the
    audit log, before it is done."""

    def __init__(
        self,
        limits: LimitRegistry,
        adjustments: Adjustments,
        audit_log: AuditLog,
        journal: Journal,
        history: History,
    ) -> None:
        self._limits = limits
        self._adjustments = adjustments
        self._audit_log = audit_log
        self._journal = journal
        self._history = history

    async def reset(
        self,
        person: Person,
        *,
        limit: str,
        value: str | Sequence[str] | None = None,
        workspace: str | None = None,
        request_id: str,
    ) -> dict[str, object]:
        """Take back what the current window of the limit has used; what is reserved stays.

        Limits of the same scope, meter and window share their counters: they are reset together.

        Args:
            value: of the limit's scope, as reports show it; of a pair also both values. Not needed where there is one.
            workspace: whose; not needed by who has one, and for limits of one workspace or of the whole deployment.
            request_id: a second reset of the same by this id, within five minutes, changes nothing and is answered as
                the first.

        Returns `{id, limit, workspace, value, used}`: `used` was taken back, in seconds of wall_clock.

        Raises InvalidRequest, LimitNotFound, Forbidden, StoreUnavailable and HistoryUnavailable.
        """
        if person.role is not Role.OWNER:
            raise Forbidden("This takes the admin token, or a configured API token of role owner.")
        found = await self._limits.find(limit)
        if found is None:
            raise LimitNotFound(f"There is no limit called {limit}.")
        where = await self._workspace(person, found.limit, workspace)
        counter = _counter(found.limit, where, value)
        subject = f"usage-budget:{limit}:{counter.value}"
        await self._audit_log.append(
            Audited(where, person.name, "usage.reset", subject, {"id": request_id, "counter": counter.name})
        )
        digest = hashlib.sha256(counter.name.encode()).hexdigest()[:16]
        record = Record(kind="adjustment", request_id=request_id, workspace=where, outcome="reset")
        adjusted = await self._adjustments.adjust(
            where,
            Adjustment(
                f"reset:{request_id}:{digest}", Action.RESET, (counter,), record=records.encode(record)
            ),
        )
        assert isinstance(adjusted, Adjusted), "it is nobody's book, and needs no turn"
        return {
            "id": request_id,
            "limit": limit,
            "workspace": None if where == DEPLOYMENT_WORKSPACE else where,
            "value": counter.value,
            "used": amount_shown(counter.meter, adjusted.used[0]),
        }

    async def _workspace(self, person: Person, limit: Limit, asked: str | None) -> str:
        """Where the counter lies that is meant. Raises Forbidden and InvalidRequest."""
        own = person.workspace
        if is_deployment_wide(limit.scope):
            if own is not None:
                raise Forbidden(f"This takes the admin token: {limit.name} counts over all workspaces.")
            if asked is not None:
                raise InvalidRequest(
                    f"{limit.name} counts over all workspaces: name none.", param="workspace"
                )
            return DEPLOYMENT_WORKSPACE
        workspace = asked or own or limit.workspace
        if workspace is None:
            raise InvalidRequest(f"{limit.name} counts in every workspace: name one.", param="workspace")
        if own not in (None, workspace):
            raise Forbidden(f"This takes the admin token, or an owner of workspace {workspace}.")
        if limit.workspace not in (None, workspace):
            raise InvalidRequest(f"{limit.name} binds workspace {limit.workspace} alone.", param="workspace")
        if workspace not in await all_workspaces(self._history, self._journal):
            raise InvalidRequest(f"Nothing was ever used in workspace {workspace!r}.", param="workspace")
        return workspace


def _counter(limit: Limit, workspace: str, asked: str | Sequence[str] | None) -> Counter:
    """The counter of the limit that is meant. Raises InvalidRequest."""
    if limit.meter is Meter.CONCURRENCY:
        raise InvalidRequest(f"{limit.name} counts calls that are open: that is not used up.", param="limit")
    parts = len(limit.scope.split(PAIR))
    if not isinstance(asked, str | None):
        if len(asked) != parts:
            raise InvalidRequest(f"{limit.scope} has {parts} values, not {len(asked)}.", param="value")
        asked = asked[0] if parts == 1 else pair_value(*asked)
    if asked is not None and (is_too_long(asked, _LONGEST_VALUE) or not asked.isprintable()):
        raise InvalidRequest("No call can have this value: it is too long, or not printable.", param="value")
    only = {"workspace": workspace, "deployment": "deployment"}.get(limit.scope, limit.value)
    value = asked if asked is not None else only
    if value is None:
        raise InvalidRequest(f"{limit.name} has a counter for each {limit.scope}: name one.", param="value")
    if only is not None and value != only:
        raise InvalidRequest(f"{limit.name} counts {limit.scope} {only!r} alone.", param="value")
    return Counter(limit.scope, limit.meter, limit.window, value, limit.mode is Mode.DRY_RUN)
