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
    cost_usd, enforced, allow = Meter.COST_USD, Mode.ENFORCED, Decision.ALLOW
    left: int | None = None
    warned, exceeded = [], []
    for each in call.evaluations:
        limit, decision = each.limit, each.decision
        if limit.meter is cost_usd and limit.mode is enforced:
            left = each.left if left is None else min(left, each.left)
        if decision is allow:
            continue
        if decision is Decision.WARN:
            warned.append(each)
        elif limit.mode is Mode.SUGGEST:
            exceeded.append(each)
    headers = [(b"x-gov-estimated-cost-usd", usd_text(bound.cost).encode())]
    if left is not None:
        headers.append((b"x-gov-budget-remaining-usd", usd_text(max(0, left)).encode()))
    if warned:
        headers.append((b"x-gov-warning", _shown(warned)))
    if exceeded:
        headers.append((b"x-gov-recommendation", _shown(exceeded)))
    if call.granted_output is not None:
        headers.append((b"x-gov-max-output-tokens", b"%d" % call.granted_output))
    return headers


def _shown(evaluations: list[Evaluation]) -> bytes:
    return ", ".join(f"{each.limit.name} {each.percent}%" for each in evaluations).encode()
