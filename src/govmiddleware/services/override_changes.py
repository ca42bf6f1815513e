"""What people and time make of an override, and who may. Pure policy: each is a `core.overrides.Change`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from govmiddleware.core.audit_log import Action
from govmiddleware.core.overrides import SYSTEM, Approval, Change, Override, OverrideState, Person
from govmiddleware.core.refusals import (
    AlreadyApproved,
    AlreadyDecided,
    Forbidden,
    OverrideNotFound,
    SelfApproval,
)
from govmiddleware.core.times import rfc3339
from govmiddleware.services.records import amount_shown

ENDED = (OverrideState.DENIED, OverrideState.REVOKED, OverrideState.SPENT, OverrideState.EXPIRED)


def requested(override: Override) -> Action:
    """That it was asked for."""
    asked = {
        "amount": None if override.amount is None else amount_shown(override.meter, override.amount),
        "factor": None if override.factor is None else str(override.factor),
        "seconds": override.seconds,
        "for_user": override.for_user,
        "reason": override.reason,
    }
    return _action(override, override.requester, "requested", asked)


def approval(person: Person, now_ms: int, reason: str | None = None) -> Change:
    """Somebody's yes, which brings it in force once there are as many as the limit asks for."""

    def approve(override: Override) -> tuple[Override, Action]:
        _check_decides(person, override)
        _check_undecided(override, now_ms)
        if override.is_for(person) or person.is_same(override.requester, override.requester_user):
            raise SelfApproval("Nobody approves an override that was asked by or for them.")
        if any(person.is_same(each.name, each.user) for each in override.approvals):
            raise AlreadyApproved("You have approved this override; another person has to.")
        given = (*override.approvals, Approval(person.name, person.user, now_ms))
        details = {"approvals": len(given), "approvals_required": override.approvals_required}
        changed = replace(override, approvals=given)
        if len(given) < override.approvals_required:
            return changed, _action(override, person.name, "approval", details, reason)
        until_ms = now_ms + override.seconds * 1000
        changed = replace(changed, state=OverrideState.APPROVED, until_ms=until_ms)
        return changed, _action(
            override, person.name, "approved", {**details, "until": rfc3339(until_ms)}, reason
        )

    return approve


def denial(person: Person, now_ms: int, reason: str | None = None) -> Change:
    """Somebody's no. One is enough; who asked may take it back so."""

    def deny(override: Override) -> tuple[Override, Action]:
        if not override.is_asked_by(person):
            _check_decides(person, override)
        _check_undecided(override, now_ms)
        return replace(override, state=OverrideState.DENIED), _action(
            override, person.name, "denied", {}, reason
        )

    return deny


def revocation(person: Person, now_ms: int, reason: str | None = None) -> Change:
    """The end of one that is in force, before its time."""

    def revoke(override: Override) -> tuple[Override, Action]:
        _check_decides(person, override)
        if override.state is not OverrideState.APPROVED or (override.until_ms or 0) <= now_ms:
            raise AlreadyDecided(f"The override is not in force: it is {_state(override, now_ms)}.")
        return replace(override, state=OverrideState.REVOKED), _action(
            override, person.name, "revoked", {}, reason
        )

    return revoke


def expiry(now_ms: int) -> Change:
    """The end of its time, to be decided or to be in force."""

    def expire(override: Override) -> tuple[Override, Action]:
        if override.state in ENDED or _ends(override) > now_ms:
            raise AlreadyDecided(f"The override is {override.state}.")
        details = {"was": override.state.value}
        return replace(override, state=OverrideState.EXPIRED), _action(override, SYSTEM, "expired", details)

    return expire


def exhaustion() -> Change:
    """All of its amount was used."""

    def spend(override: Override) -> tuple[Override, Action]:
        if override.state is not OverrideState.APPROVED:
            raise AlreadyDecided(f"The override is {override.state}.")
        return replace(override, state=OverrideState.SPENT), _action(override, SYSTEM, "spent", {})

    return spend


def _check_decides(person: Person, override: Override) -> None:
    if not override.is_shown_to(person) and person.workspace != override.workspace:
        raise not_found(override.id)
    if not person.decides_in(override.workspace):
        whose = "the admin token" if override.workspace != person.workspace else "an owner or admin"
        raise Forbidden(f"This takes {whose}: a configured API token of that role, or the admin token.")


def _check_undecided(override: Override, now_ms: int) -> None:
    if override.state is not OverrideState.REQUESTED or override.decide_by_ms <= now_ms:
        raise AlreadyDecided(f"The override is {_state(override, now_ms)} already.")


def not_found(override_id: str) -> OverrideNotFound:
    return OverrideNotFound(f"There is no override {override_id} here.")


def _state(override: Override, now_ms: int) -> OverrideState:
    """As it is, though nobody may have written down yet that its time has ended."""
    has_ended = override.state not in ENDED and _ends(override) <= now_ms
    return OverrideState.EXPIRED if has_ended else override.state


def _ends(override: Override) -> int:
    return override.decide_by_ms if override.until_ms is None else override.until_ms


def _action(
    override: Override, actor: str, what: str, details: Mapping[str, object], reason: str | None = None
) -> Action:
    said = {"override": override.id, **details}
    if reason is not None:
        said["reason"] = reason
    return Action(override.workspace, actor, f"override.{what}", override.subject, said)
