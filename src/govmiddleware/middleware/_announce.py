"""What a governed answer's headers say of the limits."""

from __future__ import annotations

from govmiddleware.core.call import Call
from govmiddleware.core.limits import Meter, Mode
from govmiddleware.core.money import usd_text
from govmiddleware.core.ports import Headers
from govmiddleware.core.refusals import Decision, Evaluation


def announcements(call: Call) -> Headers:
    """Of a model call that was admitted: the cost that its bound comes to, what the tightest limit on money leaves
    after it, the limits that are past soft, those in mode suggest that have no room for it, and the output that it
    is held to."""
    bound = call.bound
    if bound is None:
        return []
    headers = [("x-gov-estimated-cost-usd", usd_text(bound.cost))]
    binding = [each for each in call.evaluations if each.limit.mode is Mode.ENFORCED]
    left = [each.room - each.asked for each in binding if each.limit.meter is Meter.COST_USD]
    if left:
        headers.append(("x-gov-budget-remaining-usd", usd_text(max(0, min(left)))))
    if warned := [each for each in call.evaluations if each.decision is Decision.WARN]:
        headers.append(("x-gov-warning", _shown(warned)))
    if exceeded := [
        each
        for each in call.evaluations
        if each.limit.mode is Mode.SUGGEST and each.decision is Decision.BLOCK
    ]:
        headers.append(("x-gov-recommendation", _shown(exceeded)))
    if call.granted_output is not None:
        headers.append(("x-gov-max-output-tokens", str(call.granted_output)))
    return [(name.encode(), value.encode()) for name, value in headers]


def _shown(evaluations: list[Evaluation]) -> str:
    return ", ".join(f"{each.limit.name} {each.percent}%" for each in evaluations)
