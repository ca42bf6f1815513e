"""What a refusal says in every protocol: the limits that failed, and whether to try again.

Source: what the `_base_client.py` of openai-python and anthropic-sdk-python do with `x-should-retry`,
`retry-after-ms` and `retry-after`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from govmiddleware.core.limits import Meter
from govmiddleware.core.money import usd_text
from govmiddleware.core.ports import Headers
from govmiddleware.core.refusals import BudgetExhausted, Evaluation, LimitRefusal, RateLimited, Refusal

LONGEST_RETRY_AFTER_MS = 120_000
"""What openai-python waits at most; anthropic-sdk-python would sleep through any. A longer wait is not worth
holding a connection's caller."""


def message(refusal: Refusal) -> str:
    """What the client reads. A budget's refusal ends with its link, for most people see of an error its message."""
    if isinstance(refusal, BudgetExhausted) and refusal.link is not None:
        return f"{refusal} To ask for more: {refusal.link}"
    return str(refusal)


def failed_limits(refusal: LimitRefusal) -> list[dict[str, Any]]:
    """Every limit that failed, as people and programs read it."""
    now = time.time()
    return [_failed_limit(failure, now) for failure in refusal.failures]


def _failed_limit(failure: Evaluation, now: float) -> dict[str, Any]:
    limit = failure.limit
    return {
        "name": limit.name,
        "scope": str(limit.scope),
        "value": failure.value,
        "meter": str(limit.meter),
        "used": _amount(limit.meter, failure.consumed),
        "reserved": _amount(limit.meter, failure.reserved),
        "requested": _amount(limit.meter, failure.asked),
        "maximum": _amount(limit.meter, limit.hard),
        "resets_at": resets_at(failure, now),
    }


def _amount(meter: Meter, amount: int) -> int | str:
    return usd_text(amount) if meter is Meter.COST_USD else amount


def resets_at(failure: Evaluation, now: float) -> str | None:
    """When the limit frees up, in RFC 3339, UTC; None where time alone does not free it."""
    if failure.frees_in_ms is None:
        return None
    moment = datetime.fromtimestamp(now + failure.frees_in_ms / 1000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def rate_limits(refusal: RateLimited, kinds: Mapping[Meter, str]) -> Iterator[tuple[str, Evaluation]]:
    """The first limit of each kind that failed, for the headers that tell of rate limits."""
    told: set[str] = set()
    for failure in refusal.failures:
        kind = kinds.get(failure.limit.meter)
        if kind is not None and kind not in told:
            told.add(kind)
            yield kind, failure


def remaining(failure: Evaluation) -> int:
    """What was left of the limit."""
    return max(0, failure.limit.hard - failure.consumed - failure.reserved)


def retry_headers(refusal: Refusal) -> Headers:
    """Whether and when to try again."""
    wait_ms = refusal.retry_after_ms
    too_long = wait_ms is not None and wait_ms > LONGEST_RETRY_AFTER_MS
    if refusal.retryable is False or too_long:
        # No wait beside a "do not": SDKs that know only retry-after would sleep through it.
        return [(b"x-should-retry", b"false")]
    headers: Headers = []
    if refusal.retryable:
        headers.append((b"x-should-retry", b"true"))
    if wait_ms is not None:
        wait_ms = max(wait_ms, 1)
        headers.append((b"retry-after", b"%d" % -(-wait_ms // 1000)))
        headers.append((b"retry-after-ms", b"%d" % wait_ms))
    return headers
