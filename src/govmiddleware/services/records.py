"""Journal records: one outcome for each request, and refusals and their summaries beside."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from govmiddleware.core.call import Call, Reservation, Settlement
from govmiddleware.core.charge import Charge, Outcome
from govmiddleware.core.demand import Bound
from govmiddleware.core.limits import Meter
from govmiddleware.core.money import nano_usd, usd_text
from govmiddleware.core.refusals import Evaluation, Refusal
from govmiddleware.core.reports import Sums
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE
from govmiddleware.core.usage import Usage
from govmiddleware.protocols.litellm import RESPONSE_COST
from govmiddleware.services.settlement import charge_as_bound

UNREADABLE = "unreadable"
"""The kind of what stands for a record that this version cannot read."""


class RecordedEvaluation(msgspec.Struct, frozen=True):
    """`evaluations` of a record; money as decimal strings, everything else as numbers."""

    limit: str
    value: str
    consumed: int | str
    reserved: int | str
    projected: int | str
    hard: int | str
    decision: str
    soft: int | str | None = None
    mode: str = "enforced"
    overrides: list[str] = []
    """The ids of those that added to the limit's room, which journaled holds have amounts of."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record, without what the store adds: `record_id`, `at` and `holds`. Money: 9-place strings."""

    kind: str
    request_id: str | None = None
    parent_request_id: str | None = None
    reservation_id: str | None = None
    workspace: str
    api_token: str | None = None
    user: str | None = None
    session: str | None = None
    agent: str | None = None
    tags: dict[str, str] = {}
    protocol: str | None = None
    provider: str | None = None
    model_requested: str | None = None
    model_served: str | None = None
    estimate: dict[str, int] | None = None
    bound: dict[str, int | str] | None = None
    reserved_usd: str | None = None
    """What was reserved of the bound: less where a stream reserves in slices."""
    usage: Usage | None = None
    cost_usd: str | None = None
    price_version: str | None = None
    evaluations: list[RecordedEvaluation] = []
    would_refuse: str | None = None
    """The code of the refusal that limits in dry_run would have given."""
    would_leave_output_tokens: int | None = None
    """Of each choice, where limits in dry_run would have held the call to less than it was left."""
    outcome: str | None = None
    settlement: str | None = None
    status: int | None = None
    duration_ms: float | None = None
    refused: int = 0
    """How many refusals this record stands for: 1, or in a summary all that were not journaled."""


class _Named(msgspec.Struct):
    """Of a record, what it is told by alone."""

    reservation_id: str | None = None


encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Record)
_named_decoder = msgspec.json.Decoder(_Named)


def decode(raw: bytes) -> Record:
    """What is no record, or one that this version cannot read, is one of kind UNREADABLE, which says nothing."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Record(kind=UNREADABLE, workspace="")


def reservation_id_in(raw: bytes) -> str | None:
    """Of a record; all else in it is passed over. None where it has none, or is no record."""
    try:
        return _named_decoder.decode(raw).reservation_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def outcome_record(call: Call, charge: Charge, reservation_id: str, *, price_version: str | None) -> Record:
    """The one record of a settled request."""
    return _record(
        call,
        call.reserved,
        "outcome",
        charge.outcome,
        reservation_id=reservation_id,
        charge=charge,
        price_version=price_version,
    )


def expired_record(
    call: Call, reservation_id: str, reserved: Bound | None, *, price_version: str | None
) -> Record:
    """What is journaled if nobody comes back to settle: as reserved."""
    return _record(
        call,
        reserved,
        "outcome",
        Outcome.EXPIRED,
        reservation_id=reservation_id,
        charge=charge_as_bound(reserved, Settlement.EXPIRED, Outcome.EXPIRED),
        price_version=price_version,
    )


def correction_record(
    call: Call, charge: Charge, reservation: Reservation, *, price_version: str | None
) -> Record:
    """Of a request whose expired record is in the journal: what it really used, less what that says."""
    expired = charge_as_bound(reservation.left, Settlement.EXPIRED, Outcome.EXPIRED)
    return _record(
        call,
        call.reserved,
        "correction",
        charge.outcome,
        reservation_id=reservation.id,
        charge=replace(charge, usage=charge.usage - expired.usage, cost=charge.cost - expired.cost),
        price_version=price_version,
    )


def deployment_record(record: Record) -> Record:
    """What stands for `record` among the limits over the whole deployment: it carries holds alone."""
    return Record(
        kind=record.kind,
        request_id=record.request_id,
        reservation_id=record.reservation_id,
        workspace=DEPLOYMENT_WORKSPACE,
        settlement=record.settlement,
    )


def refusal_record(call: Call, refusal: Refusal) -> Record:
    """A refused request. It consumed nothing."""
    return _record(call, call.reserved, "refusal", refusal.code, refused=1)


def summary_record(workspace: str, refused: int) -> Record:
    """Stands for refusals that were too many to journal one by one."""
    return Record(kind="summary", workspace=workspace, outcome="refusals", refused=refused)


def sums_of(record: Record) -> Sums:
    """What a record says was used. Debt is the cost past what was reserved; a correction speaks of what is past what
    was reserved, which its request's expired record has."""
    sums = Sums(refused=record.refused)
    if record.kind not in ("outcome", "correction"):
        return sums
    used, sums.cost = record.usage or Usage(), nano_usd(record.cost_usd or 0)
    sums.requests = int(record.kind == "outcome")
    sums.input_tokens, sums.output_tokens = used.input_tokens, used.output_tokens
    sums.cached_tokens, sums.cache_write_tokens = used.cached_tokens, used.cache_write_tokens
    sums.reasoning_tokens = used.reasoning_tokens
    sums.debt = max(0, sums.cost - (nano_usd(record.reserved_usd or 0) if sums.requests else 0))
    return sums


def _record(
    call: Call,
    reserved: Bound | None,
    kind: str,
    outcome: str,
    *,
    reservation_id: str | None = None,
    charge: Charge | None = None,
    price_version: str | None = None,
    refused: int = 0,
) -> Record:
    principal, attribution, bound = call.require_principal(), call.attribution, call.bound
    estimated, parent, would_refuse = call.estimated_input_tokens, call.parent, call.would_refuse
    if charge is None or not (charge.cost_was_told or call.price):
        price_version = None
    elif charge.cost_was_told:
        price_version = RESPONSE_COST  # the upstream's word
    return Record(
        kind=kind,
        request_id=call.request_id,
        parent_request_id=parent.request_id if parent else None,
        reservation_id=reservation_id,
        workspace=principal.workspace,
        api_token=principal.api_token,
        user=attribution.user,
        session=attribution.session,
        agent=attribution.agent,
        tags=dict(attribution.tags),
        protocol=call.protocol.name,
        provider=call.provider,
        model_requested=call.model,
        model_served=call.model_served,
        estimate=None if estimated is None else {"input_tokens": estimated},
        bound=None
        if bound is None
        else {
            "input_tokens": bound.input_tokens,
            "output_tokens": bound.output_tokens,
            "cost_usd": _usd(bound.cost),
        },
        reserved_usd=None if reserved is None else _usd(reserved.cost),
        usage=None if charge is None else charge.usage,
        cost_usd=None if charge is None else _usd(charge.cost),
        price_version=price_version,
        evaluations=_recorded(call.evaluations),
        would_refuse=would_refuse.code if would_refuse else None,
        would_leave_output_tokens=call.shadow_output,
        outcome=outcome,
        settlement=None if charge is None else charge.settlement,
        status=call.status,
        duration_ms=round((time.monotonic() - call.started) * 1000, 3),
        refused=refused,
    )


def _recorded(evaluations: Iterable[Evaluation]) -> list[RecordedEvaluation]:
    recorded = []
    for each in evaluations:
        limit = each.limit
        consumed, reserved, projected = each.consumed, each.reserved, each.projected
        hard, soft = limit.hard, limit.soft
        if limit.meter is Meter.COST_USD:
            shown = RecordedEvaluation(
                limit.name,
                each.value,
                _usd(consumed),
                _usd(reserved),
                _usd(projected),
                _usd(hard),
                each.decision,
                None if soft is None else _usd(soft),
                limit.mode,
                list(each.overrides),
            )
        else:
            shown = RecordedEvaluation(
                limit.name,
                each.value,
                consumed,
                reserved,
                projected,
                hard,
                each.decision,
                soft,
                limit.mode,
                list(each.overrides),
            )
        recorded.append(shown)
    return recorded


_usd = lru_cache(1024)(usd_text)
"""The same amounts come again and again: limits, bounds, nothing."""


def amount_shown(meter: Meter, amount: int) -> int | str:
    """An amount as outputs show it: money as a decimal string, counts as numbers."""
    return usd_text(amount) if meter is Meter.COST_USD else amount
