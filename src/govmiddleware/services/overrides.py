"""Overrides, from the request to their end. SQL has them, each change with its entry in the audit log; what is in force
is projected into the store, where admissions are decided."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from decimal import Decimal

import msgspec

from govmiddleware.core import ids
from govmiddleware.core.adjustments import Action, Adjustment, Adjustments, Look
from govmiddleware.core.limits import Limit, Meter, Mode
from govmiddleware.core.money import LARGEST_LIMIT, NANO
from govmiddleware.core.overrides import Change, Override, OverrideState, OverrideStore, Person
from govmiddleware.core.refusals import (
    AlreadyDecided,
    AlreadyRequested,
    InvalidRequest,
    LimitNotFound,
    TooManyRequested,
)
from govmiddleware.core.registries import RaiseStore
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE, PLAIN_NAME, Scope, is_deployment_wide, value_in
from govmiddleware.core.times import rfc3339
from govmiddleware.errors import HistoryUnavailable, StoreUnavailable
from govmiddleware.services import override_changes as changes
from govmiddleware.services import records
from govmiddleware.services.limits import LimitRegistry
from govmiddleware.services.raises import Raises
from govmiddleware.services.records import amount_shown

logger = logging.getLogger("govmiddleware.overrides")

CARE_SECONDS = 2.0
"""How often one worker looks after all overrides."""

_DECIDE_SECONDS = 24 * 3600
"""How long a request waits for a decision before it expires."""

_MOST_UNDECIDED = 100
"""Of one requester: a token that stands for many users may ask for each."""

_MOST_SECONDS = 31 * 24 * 3600
_MOST_FACTOR = 100
_LONGEST_TEXT = 500


class OverrideRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for, as people write it: `amount` in USD for money, else in the meter's unit.

    Attributes:
        value: of the limit's scope; None for the asker's own.
        workspace: for the admin, who has none.
    """

    seconds: int
    reason: str
    amount: Decimal | None = None
    factor: Decimal | None = None
    value: str | None = None
    for_user: str | None = None
    workspace: str | None = None


class Overrides:
    """What people do with overrides, and what has to be done when time has passed.

    Args:
        now_ms: the clock.

    Attributes:
        on_requested, on_changed: are called with each override that was asked for, or that a person changed, here.
    """

    def __init__(
        self,
        store: OverrideStore,
        raise_store: RaiseStore,
        raises: Raises,
        limits: LimitRegistry,
        adjustments: Adjustments,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._raise_store = raise_store
        self._raises = raises
        self._limits = limits
        self._adjustments = adjustments
        self._now_ms = now_ms
        self.on_requested: list[Callable[[Override], None]] = []
        self.on_changed: list[Callable[[Override], None]] = []

    async def request(self, limit: str, asked: OverrideRequest, person: Person) -> Override:
        """Raises LimitNotFound, InvalidRequest, AlreadyRequested, TooManyRequested, StoreUnavailable and
        HistoryUnavailable."""
        override = await self._asked_for(limit, asked, person)
        if not await self._add(override):
            raise AlreadyRequested("You have asked for this already, and nobody has decided yet.")
        return override

    async def request_or_join(self, limit: Limit, asked: OverrideRequest, person: Person) -> Override:
        """As `request`; where the same person has an undecided one for the same limit and value, that one."""
        override = self._checked(limit, asked, person)
        while not await self._add(override):
            if (undecided := await self._store.undecided(override)) is not None:
                return undecided  # else it was decided in between
        return override

    async def approve(self, override_id: str, person: Person, reason: str | None = None) -> Override:
        """Raises OverrideNotFound, Forbidden, SelfApproval, AlreadyApproved, AlreadyDecided and HistoryUnavailable."""
        override = await self._change(override_id, changes.approval(person, self._now_ms(), _text(reason)))
        if override.state is OverrideState.APPROVED:
            await self._reach_store(self._raises.put(override.raises), override)
        return self._told(override)

    async def deny(self, override_id: str, person: Person, reason: str | None = None) -> Override:
        """Raises OverrideNotFound, Forbidden, AlreadyDecided and HistoryUnavailable."""
        return self._told(
            await self._change(override_id, changes.denial(person, self._now_ms(), _text(reason)))
        )

    async def revoke(self, override_id: str, person: Person, reason: str | None = None) -> Override:
        """Raises as `deny`. Nothing passes by it any more, at no worker. What is used up is spent, and not revoked."""
        with suppress(StoreUnavailable):
            await self._end_spent(await self._store.find(override_id))
        override = await self._change(override_id, changes.revocation(person, self._now_ms(), _text(reason)))
        await self._reach_store(self._withdraw(override), override)
        return self._told(override)

    async def find(self, *override_ids: str) -> Sequence[Override]:
        """Those of these ids that there are. Raises HistoryUnavailable."""
        return await self._store.find(*override_ids)

    async def list(
        self, person: Person, *, state: OverrideState | None = None, limit: str | None = None
    ) -> Sequence[Override]:
        """Those that somebody may see, the newest first: who decides in a workspace its, others their own.
        Raises HistoryUnavailable."""
        return await self._store.list(state=state, limit=limit, shown_to=person)

    async def shown(self, overrides: Iterable[Override]) -> Sequence[dict[str, object]]:
        """As JSON. What was used is null where the store does not answer."""
        overrides = tuple(overrides)
        try:
            taken = await self._taken(each for each in overrides if each.until_ms is not None)
        except StoreUnavailable:
            return [override_shown(each, None) for each in overrides]
        return [override_shown(each, taken.get(each.id, (0, 0))) for each in overrides]

    async def look_after(self) -> None:
        """End what is over, once; and see to it that the store has just what is in force. Raises StoreUnavailable."""
        if not await self._raise_store.take_turn(round(CARE_SECONDS * 900)):
            return
        # The store first: what is in it was approved before, so that SQL says it is or is no more.
        in_store = await self._raises.ids()
        try:
            for override_id in await self._store.overdue(self._now_ms()):
                await self._end(override_id, changes.expiry(self._now_ms()))
            approved = {each.id: each for each in await self._store.approved()}
            spent = await self._end_spent(approved.values())
            for override_id in approved.keys() - in_store - spent:
                await self._raises.put(approved[override_id].raises)
            gone = in_store - approved.keys()
            known = {each.id: each for each in await self._store.find(*gone)} if gone else {}
            for override_id in gone:
                if (found := known.get(override_id)) is not None:
                    await self._reach_store(self._withdraw(found), found)
                else:
                    await self._raises.remove(override_id)
        except HistoryUnavailable as error:
            logger.warning("overrides cannot be looked after, for SQL does not answer: %s", error)

    async def _asked_for(self, name: str, asked: OverrideRequest, person: Person) -> Override:
        registered = await self._limits.find(name)
        limit = registered.limit if registered else None
        workspace = person.workspace or asked.workspace
        if limit is None or not (limit.workspace is None or workspace in (None, limit.workspace)):
            raise LimitNotFound(f"There is no limit called {name}.")
        return self._checked(limit, asked, person)

    def _checked(self, limit: Limit, asked: OverrideRequest, person: Person) -> Override:
        if not person.is_admin and asked.workspace not in (None, person.workspace):
            raise InvalidRequest("Only the admin asks for other workspaces.", param="workspace")
        if limit.mode is not Mode.ENFORCED:
            raise InvalidRequest(f"Limit {limit.name} refuses nothing: it is in mode {limit.mode}.")
        if asked.workspace is not None and not re.fullmatch(PLAIN_NAME, asked.workspace):
            raise InvalidRequest("workspace: the name of a workspace.", param="workspace")
        workspace = person.workspace or asked.workspace or limit.workspace
        if is_deployment_wide(limit.scope):
            place = DEPLOYMENT_WORKSPACE
        elif workspace is None:
            raise InvalidRequest("The admin says for which workspace.", param="workspace")
        else:
            place = workspace
        now = self._now_ms()
        return Override(
            id=ids.new_override_id(),
            workspace=place,
            limit=limit.name,
            scope=limit.scope,
            meter=limit.meter,
            value=_value(limit, asked, person, workspace),
            reason=_text(asked.reason, is_required=True) or "",
            requester=person.name,
            requester_workspace=person.workspace,
            requester_user=person.user,
            for_user=_text(asked.for_user, param="for_user"),
            requested_at_ms=now,
            seconds=_seconds(asked.seconds),
            decide_by_ms=now + _DECIDE_SECONDS * 1000,
            approvals_required=limit.approvals_required,
            amount=_amount(limit, asked),
            factor=_factor(limit, asked),
        )

    async def _add(self, override: Override) -> bool:
        undecided = await self._store.count_undecided(override.requester, override.requester_workspace)
        if undecided >= _MOST_UNDECIDED:
            raise TooManyRequested(f"{undecided} of your requests wait for a decision.")
        added = await self._store.add(override, changes.requested(override))
        if added:
            for tell in self.on_requested:
                tell(override)
        return added

    async def _change(self, override_id: str, change: Change) -> Override:
        override = await self._store.change(override_id, change)
        if override is None:
            raise changes.not_found(override_id)
        return override

    async def _end_spent(self, overrides: Iterable[Override]) -> set[str]:
        """Of those that are in force; returns their ids. Raises StoreUnavailable and HistoryUnavailable."""
        candidates = [
            each for each in overrides if each.state is OverrideState.APPROVED and each.raises.is_used_up
        ]
        taken = await self._taken(candidates)
        spent = [each for each in candidates if taken[each.id][0] >= each.raises.size]
        for override in spent:
            await self._end(override.id, changes.exhaustion())
        return {each.id for each in spent}

    async def _end(self, override_id: str, change: Change) -> None:
        """Where nobody was first."""
        try:
            ended = await self._change(override_id, change)
        except AlreadyDecided:
            return
        self._told(ended)
        await self._raises.remove(override_id)

    def _told(self, override: Override) -> Override:
        for tell in self.on_changed:
            tell(override)
        return override

    async def _reach_store(self, work: Awaitable[None], override: Override) -> None:
        try:
            await work
        except StoreUnavailable as error:
            logger.warning(
                "override %s is %s, the store hears of it later: %s", override.id, override.state, error
            )

    async def _withdraw(self, override: Override) -> None:
        """Of one that is in force no more. What a revocation leaves is used up, all of its size: what calls that run
        now give back must not raise anything either."""
        raised = override.raises
        if override.state is OverrideState.REVOKED:
            seen = await self._adjustments.look(override.workspace, Look((raised.counter,)))
            if (seen.used[0] or 0) < raised.size:
                record = records.Record(
                    kind="adjustment", workspace=override.workspace, outcome="override_revoked"
                )
                await self._adjustments.adjust(
                    override.workspace,
                    Adjustment(
                        f"revoke:{override.id}",
                        Action.ADD,
                        (raised.counter,),
                        (raised.size,),
                        records.encode(record),
                    ),
                )
        await self._raises.remove(override.id)

    async def _taken(self, overrides: Iterable[Override]) -> dict[str, tuple[int, int]]:
        """Used and reserved, by id. Raises StoreUnavailable."""
        by_workspace: dict[str, list[Override]] = defaultdict(list)
        for override in overrides:
            by_workspace[override.workspace].append(override)
        taken: dict[str, tuple[int, int]] = {}
        for workspace, group in by_workspace.items():
            seen = await self._adjustments.look(workspace, Look(tuple(each.raises.counter for each in group)))
            for each, used, reserved in zip(group, seen.used, seen.reserved, strict=True):
                taken[each.id] = used or 0, reserved
        return taken


def _value(limit: Limit, asked: OverrideRequest, person: Person, workspace: str | None) -> str:
    """Of the limit's scope: as given, else the one that the limit binds, else the asker's own."""
    given = _text(asked.value, param="value")
    if limit.value is not None:
        if given not in (None, limit.value):
            raise InvalidRequest(f"Limit {limit.name} binds {limit.value!r} alone.", param="value")
        return limit.value
    subject: dict[str, str | None] = {
        Scope.DEPLOYMENT: Scope.DEPLOYMENT,
        Scope.WORKSPACE: workspace,
        Scope.API_TOKEN: person.api_token,
        Scope.USER: asked.for_user or person.user,
    }
    known = {scope: value for scope, value in subject.items() if value is not None}
    own = value_in(limit.scope, known) if "tag:" not in limit.scope else None
    if limit.scope in (Scope.DEPLOYMENT, Scope.WORKSPACE) and given not in (None, own):
        raise InvalidRequest(f"Limit {limit.name} counts over the whole {limit.scope}.", param="value")
    value = given or own
    if value is None:
        raise InvalidRequest(f"Say for which {limit.scope}, as usage shows it.", param="value")
    return value


def _amount(limit: Limit, asked: OverrideRequest) -> int | None:
    if (asked.amount is None) == (asked.factor is None):
        raise InvalidRequest("Ask for an amount or for a factor.", param="amount")
    if asked.amount is None:
        return None
    unit = NANO if limit.meter is Meter.COST_USD else 1
    largest = Decimal(LARGEST_LIMIT) / unit
    step = Decimal(1) / unit
    is_within = asked.amount.is_finite() and 0 < asked.amount <= largest
    if not is_within or asked.amount.quantize(step) != asked.amount:
        what = "USD, with 9 decimal places at most" if unit == NANO else "a whole number"
        raise InvalidRequest(f"amount: {what}, more than 0 and at most {largest}.", param="amount")
    return int(asked.amount * unit)


def _factor(limit: Limit, asked: OverrideRequest) -> Decimal | None:
    if asked.factor is None:
        return None
    if not (asked.factor.is_finite() and 1 < asked.factor <= _MOST_FACTOR) or len(str(asked.factor)) > 20:
        raise InvalidRequest(f"factor: more than 1 and at most {_MOST_FACTOR}.", param="factor")
    if int(limit.hard * asked.factor) <= limit.hard:
        raise InvalidRequest(f"factor: one that adds something to {limit.hard}.", param="factor")
    return asked.factor


def _seconds(seconds: int) -> int:
    if not 1 <= seconds <= _MOST_SECONDS:
        raise InvalidRequest(f"seconds: 1 to {_MOST_SECONDS} (31 days).", param="seconds")
    return seconds


def _text(text: str | None, *, param: str = "reason", is_required: bool = False) -> str | None:
    if is_required and not (text or "").strip():
        raise InvalidRequest(f"{param}: say why.", param=param)
    if text is not None and not (0 < len(text) <= _LONGEST_TEXT and text.isprintable()):
        raise InvalidRequest(f"{param}: 1 to {_LONGEST_TEXT} printable characters.", param=param)
    return text


def override_shown(override: Override, taken: tuple[int, int] | None) -> dict[str, object]:
    """An override as JSON. `taken`: what is used and reserved of it, where that is known."""
    used = remaining = None
    if override.amount is not None and taken is not None and override.raises.is_used_up:
        # A revocation has used up as much again.
        was_used = max(0, taken[0] - (override.amount if override.state is OverrideState.REVOKED else 0))
        used = amount_shown(override.meter, was_used)
        is_open = override.state in (OverrideState.REQUESTED, OverrideState.APPROVED)
        remaining = amount_shown(override.meter, max(0, override.amount - sum(taken)) if is_open else 0)
    return {
        "id": override.id,
        "subject": override.subject,
        "workspace": override.workspace,
        "limit": override.limit,
        "value": override.value,
        "state": override.state.value,
        "amount": None if override.amount is None else amount_shown(override.meter, override.amount),
        "factor": None if override.factor is None else str(override.factor),
        "used": used,
        "remaining": remaining,
        "reason": override.reason,
        "requester": override.requester,
        "for_user": override.for_user,
        "requested_at": rfc3339(override.requested_at_ms),
        "decide_by": rfc3339(override.decide_by_ms),
        "seconds": override.seconds,
        "until": rfc3339(override.until_ms),
        "approvals": [{"by": each.name, "at": rfc3339(each.at_ms)} for each in override.approvals],
        "approvals_required": override.approvals_required,
    }
