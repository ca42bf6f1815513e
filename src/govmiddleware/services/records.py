"""Journal records: one outcome for each request, and refusals and their summaries beside."""

from __future__ import annotations

import time
from functools import lru_cache

import msgspec

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


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    return _encoder.encode(record)


def decode(raw: bytes) -> Record:
    """What is no record, or one that this version cannot read, is one of kind UNREADABLE, which says nothing."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Record(kind=UNREADABLE, workspace="")


def outcome_record(call: Call, charge: Charge, reservation_id: str, *, price_version: str | None) -> Record:
    """The one record of a settled request."""
    return _outcome_record(call, charge, reservation_id, call.reserved, price_version)


def expired_record(
    call: Call, reservation_id: str, reserved: Bound | None, *, price_version: str | None
) -> Record:
    """What is journaled if nobody comes back to settle: as reserved."""
    charge = charge_as_bound(reserved, Settlement.EXPIRED, Outcome.EXPIRED)
    return _outcome_record(call, charge, reservation_id, reserved, price_version)


def _outcome_record(
    call: Call, charge: Charge, reservation_id: str, reserved: Bound | None, price_version: str | None
) -> Record:
    return _record(
        call,
        reserved,
        kind="outcome",
        reservation_id=reservation_id,
        usage=charge.usage,
        cost_usd=usd_text(charge.cost),
        price_version=_priced_by(call, charge, price_version),
        outcome=charge.outcome,
        settlement=charge.settlement,
    )


def correction_record(
    call: Call, charge: Charge, reservation: Reservation, *, price_version: str | None
) -> Record:
    """Of a request whose expired record is in the journal: what it really used, less what that says."""
    expired = charge_as_bound(reservation.left, Settlement.EXPIRED, Outcome.EXPIRED)
    return _record(
        call,
        call.reserved,
        kind="correction",
        reservation_id=reservation.id,
        usage=charge.usage - expired.usage,
        cost_usd=usd_text(charge.cost - expired.cost),
        price_version=_priced_by(call, charge, price_version),
        outcome=charge.outcome,
        settlement=charge.settlement,
    )


def _priced_by(call: Call, charge: Charge, price_version: str | None) -> str | None:
    """Where the cost comes from: the prices of this version, or the upstream's word."""
    if charge.cost_was_told:
        return RESPONSE_COST
    return price_version if call.price else None


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
    return _record(call, call.reserved, kind="refusal", outcome=refusal.code, refused=1)


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
    *,
    kind: str,
    outcome: str,
    reservation_id: str | None = None,
    usage: Usage | None = None,
    cost_usd: str | None = None,
    price_version: str | None = None,
    settlement: str | None = None,
    refused: int = 0,
) -> Record:
    principal, attribution, bound = call.require_principal(), call.attribution, call.bound
    return Record(
        kind=kind,
        request_id=call.request_id,
        parent_request_id=call.parent.request_id if call.parent else None,
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
        estimate=None
        if call.estimated_input_tokens is None
        else {"input_tokens": call.estimated_input_tokens},
        bound=None
        if bound is None
        else {
            "input_tokens": bound.input_tokens,
            "output_tokens": bound.output_tokens,
            "cost_usd": usd_text(bound.cost),
        },
        reserved_usd=None if reserved is None else usd_text(reserved.cost),
        usage=usage,
        cost_usd=cost_usd,
        price_version=price_version,
        evaluations=list(map(_recorded, call.evaluations)),
        would_refuse=call.would_refuse.code if call.would_refuse else None,
        would_leave_output_tokens=call.shadow_output,
        outcome=outcome,
        settlement=settlement,
        status=call.status,
        duration_ms=round((time.monotonic() - call.started) * 1000, 3),
        refused=refused,
    )


def _recorded(evaluation: Evaluation) -> RecordedEvaluation:
    limit = evaluation.limit
    shown, value_shown = (usd_text, _limits_shown) if limit.meter is Meter.COST_USD else (int, int)
    return RecordedEvaluation(
        limit=limit.name,
        value=evaluation.value,
        consumed=shown(evaluation.consumed),
        reserved=shown(evaluation.reserved),
        projected=shown(evaluation.projected),
        hard=value_shown(limit.hard),
        decision=evaluation.decision,
        soft=None if limit.soft is None else value_shown(limit.soft),
        mode=limit.mode,
        overrides=list(evaluation.overrides),
    )


_limits_shown = lru_cache(1024)(usd_text)
"""Of limits there are few."""


def amount_shown(meter: Meter, amount: int) -> int | str:
    """An amount as outputs show it: money as a decimal string, counts as numbers."""
    return usd_text(amount) if meter is Meter.COST_USD else amount
