"""What a finished call is charged, and how sure that figure is. Pure policy."""

from __future__ import annotations

from msgspec.structs import replace

from govmiddleware.core.call import Call, Progress, Reading, Settlement
from govmiddleware.core.charge import Charge, Outcome
from govmiddleware.core.demand import NOTHING, Bound
from govmiddleware.core.model_price import ModelPrice
from govmiddleware.core.usage import Usage

_NOTHING = Usage()

NOTHING_USED = Charge(_NOTHING, 0, Settlement.EXACT, Outcome.ABORTED)
"""Of a call that ended before it was made."""


def charge_for(call: Call, *, crashed: bool = False, cancelled: bool = False) -> Charge:
    """The charge of a call that was dispatched.

    Once dispatched, the whole input is charged. A cut stream adds the output that was delivered. Charged
    its whole bound, for what the provider generated is unknown: an unstreamed call that was cut or timed out, one in
    the background that was accepted alone or whose stream was cut, an app that raised before it answered, and an
    answer that nobody could read. A redirect, an answer of 4xx or 5xx without usage, and a connection that failed,
    cost nothing; the request counts. So does a call that was answered by calls from inside the app: they are charged.

    Args:
        crashed: the app raised. An error page that it was given by somebody else is not an answer.
        cancelled: its task was ended from outside.
    """
    cut = crashed or cancelled or call.refusal is not None or call.reading is Reading.CUT
    failed = call.status is not None and call.status >= 400
    outcome = Outcome.UPSTREAM_ERROR if failed else Outcome.ABORTED if cut else Outcome.ANSWERED
    if call.was_cut:
        outcome = Outcome.CUT
    is_free = call.demand is None or call.demand is NOTHING
    if is_free or call.has_inner_calls or call.progress is Progress.UNREACHED:
        return Charge(_NOTHING, 0, Settlement.EXACT, outcome)
    answered = call.status is not None and call.refusal is None and not (crashed and failed)
    if answered and (call.status or 0) >= 300 and call.usage is None:
        return Charge(_NOTHING, 0, Settlement.EXACT, outcome)
    price = call.settled_price
    match call.reading:
        case Reading.WHOLE if call.usage is not None and _is_priced(price, call.usage):
            usage, settlement = call.usage, Settlement.EXACT
        case Reading.WHOLE:
            usage, settlement = _delivered(call), Settlement.ESTIMATED
        case Reading.CUT if call.stream and not call.runs_on and (answered or not crashed):
            usage, settlement = _delivered(call), Settlement.ABORTED
        case _:
            return charge_as_bound(call.bound, Settlement.ABORTED if cut else Settlement.ESTIMATED, outcome)
    if call.told_cost is not None:
        return Charge(usage, call.told_cost, settlement, outcome, cost_was_told=True)
    cost = price.cost(usage, service_tier=call.service_tier) if price else 0
    return Charge(usage, cost, settlement, outcome)


def charge_as_bound(bound: Bound | None, settlement: Settlement, outcome: Outcome) -> Charge:
    """All that a call may have used, where nobody knows what it did."""
    if bound is None:
        return Charge(_NOTHING, 0, settlement, outcome)
    usage = Usage(input_tokens=bound.input_tokens, output_tokens=bound.output_tokens)
    return Charge(usage, bound.cost, settlement, outcome)


def shadow_charge(call: Call, charge: Charge) -> Charge:
    """What the call would have been charged if its output had been held to what limits in dry_run leave it."""
    if call.shadow_output is None or call.demand is None or (price := call.settled_price) is None:
        return charge
    most = call.demand.bound(max(0, call.shadow_output)).output_tokens
    if charge.usage.output_tokens <= most:
        return charge
    usage = replace(charge.usage, output_tokens=most)
    return replace(charge, usage=usage, cost=price.cost(usage, service_tier=call.service_tier))


def _is_priced(price: ModelPrice | None, usage: Usage) -> bool:
    """Whether what was reported is what the model is billed by: a picture of a model that is billed in tokens would
    be free."""
    return price is None or usage == _NOTHING or price.charges(usage)


def _delivered(call: Call) -> Usage:
    """The input as reported or else as estimated, and the output as counted on its way."""
    reported = (call.usage or _NOTHING).completed_by(call.expected)
    return replace(
        reported,
        input_tokens=reported.input_tokens or call.estimated_input_tokens or 0,
        output_tokens=max(reported.output_tokens, call.delivered_output_tokens),
    )
