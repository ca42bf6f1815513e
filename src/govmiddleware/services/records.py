"""Journal records: one outcome for each request, and refusals and their summaries beside."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from govmiddleware.core.call import Call, Settlement
from govmiddleware.core.limits import Meter
from govmiddleware.core.money import usd_text
from govmiddleware.core.refusals import Evaluation, Refusal
from govmiddleware.services.settlement import Charge, Outcome, charge_as_reserved


class TokenUsage(msgspec.Struct, frozen=True):
    """`usage` of a record; as `core.usage.Usage`."""

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class RecordedEvaluation(msgspec.Struct, frozen=True):
    """`evaluations` of a record; money as decimal strings, everything else as numbers."""

    limit: str
    value: str
    consumed: int | str
    reserved: int | str
    projected: int | str
    hard: int | str
    decision: str


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
    usage: TokenUsage | None = None
    cost_usd: str | None = None
    price_version: str | None = None
    evaluations: list[RecordedEvaluation] = []
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
    """Raises msgspec.DecodeError where `raw` is not a record."""
    return _decoder.decode(raw)


def outcome_record(call: Call, charge: Charge, reservation_id: str, *, price_version: str | None) -> Record:
    """The one record of a settled request."""
    usage = charge.usage
    return _record(
        call,
        kind="outcome",
        reservation_id=reservation_id,
        usage=TokenUsage(
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        ),
        cost_usd=usd_text(charge.cost),
        price_version=price_version if call.price else None,
        outcome=charge.outcome.value,
        settlement=charge.settlement.value,
    )


def expired_record(call: Call, reservation_id: str, *, price_version: str | None) -> Record:
    """What is journaled if nobody comes back to settle: as reserved."""
    charge = charge_as_reserved(call, Settlement.EXPIRED, Outcome.EXPIRED)
    return outcome_record(call, charge, reservation_id, price_version=price_version)


def refusal_record(call: Call, refusal: Refusal) -> Record:
    """A refused request. It consumed nothing."""
    return _record(call, kind="refusal", outcome=refusal.code, refused=1)


def summary_record(workspace: str, refused: int) -> Record:
    """Stands for refusals that were too many to journal one by one."""
    return Record(kind="summary", workspace=workspace, outcome="refusals", refused=refused)


def _record(
    call: Call,
    *,
    kind: str,
    outcome: str,
    reservation_id: str | None = None,
    usage: TokenUsage | None = None,
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
        usage=usage,
        cost_usd=cost_usd,
        price_version=price_version,
        evaluations=_recorded(call.evaluations),
        outcome=outcome,
        settlement=settlement,
        status=call.status,
        duration_ms=round((time.monotonic() - call.started) * 1000, 3),
        refused=refused,
    )


def _recorded(evaluations: Iterable[Evaluation]) -> list[RecordedEvaluation]:
    return [
        RecordedEvaluation(
            limit=evaluation.limit.name,
            value=evaluation.value,
            consumed=amount_shown(evaluation.limit.meter, evaluation.consumed),
            reserved=amount_shown(evaluation.limit.meter, evaluation.reserved),
            projected=amount_shown(evaluation.limit.meter, evaluation.projected),
            hard=amount_shown(evaluation.limit.meter, evaluation.limit.hard),
            decision=evaluation.decision,
        )
        for evaluation in evaluations
    ]


def amount_shown(meter: Meter, amount: int) -> int | str:
    """An amount as outputs show it: money as a decimal string, counts as numbers."""
    return usd_text(amount) if meter is Meter.COST_USD else amount
