"""What becomes of a crossing: a line in the log, a metric and, where there is a receiver, a webhook message."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import Literal

import msgspec

from govmiddleware.core.events import LimitEvent
from govmiddleware.core.limits import Limit, Meter, Mode
from govmiddleware.core.money import usd_text
from govmiddleware.core.scopes import DEPLOYMENT_WORKSPACE, is_deployment_wide
from govmiddleware.core.wording import slack_text
from govmiddleware.metrics import Metrics
from govmiddleware.services.records import amount_shown
from govmiddleware.services.webhook_delivery import WebhookDelivery

logger = logging.getLogger("govmiddleware.limits")


class LimitEvents:
    """Tells people of crossings. The ledger sees to it that there is one for each limit, value and window."""

    def __init__(self, metrics: Metrics, webhook: WebhookDelivery | None = None) -> None:
        self._metrics = metrics
        self._webhook = webhook

    def tell(self, event: LimitEvent) -> None:
        """Never waits: it is called on a request's way."""
        self._metrics.crossed(event.evaluation.limit, _past(event))
        # A rate is crossed every day, and every second by whoever is in a hurry: no news for an operator.
        level = logging.INFO if event.evaluation.limit.refuses_as_rate else logging.WARNING
        if logger.isEnabledFor(level):
            logger.log(level, "%s request_id=%s", sentence(event), event.request_id)
        if self._webhook is not None:
            self._webhook.send(event_id(event), message(event))


def event_id(event: LimitEvent) -> str:
    """`evt_` and 32 hex digits: the same for the same limit, value, window and soft or hard."""
    limit = event.evaluation.limit
    workspace = DEPLOYMENT_WORKSPACE if is_deployment_wide(limit.scope) else event.workspace
    counter = (limit.scope, limit.meter.value, limit.window.name, event.evaluation.value)
    named = msgspec.json.encode([workspace, limit.name, *counter, event.window, _past(event)])
    return f"evt_{hashlib.sha256(named).hexdigest()[:32]}"


def message(event: LimitEvent) -> bytes:
    """The JSON that a webhook gets: our fields, and `text` as Slack's incoming webhooks want it."""
    evaluation, limit = event.evaluation, event.evaluation.limit
    return msgspec.json.encode(
        {
            "text": slack_text(sentence(event)),
            "type": f"limit.{_past(event)}",
            "id": event_id(event),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "workspace": event.workspace,
            "limit": limit.name,
            "scope": limit.scope,
            "value": evaluation.value,
            "meter": limit.meter.value,
            "window": limit.window.name,
            "mode": limit.mode.value,
            "soft": None if limit.soft is None else amount_shown(limit.meter, limit.soft),
            "hard": amount_shown(limit.meter, limit.hard),
            "consumed": amount_shown(limit.meter, evaluation.consumed),
            "reserved": amount_shown(limit.meter, evaluation.reserved),
            "projected": amount_shown(limit.meter, evaluation.projected),
            "percent": evaluation.percent,
            "request_id": event.request_id,
        }
    )


def sentence(event: LimitEvent) -> str:
    """For people.

    >>> sentence(event)
    "Limit 'user-month' of workspace acme is past its soft value: user 'ann' is at 8.100000000 of 10.000000000 USD
    (81%)."
    """
    evaluation, limit = event.evaluation, event.evaluation.limit
    unit = "USD" if limit.meter is Meter.COST_USD else limit.meter.value
    return (
        f"Limit {limit.name!r} of workspace {event.workspace} is past its {_past(event)} value: {limit.scope}"
        f" {evaluation.value!r} {'is at' if not event.is_hard else 'would be at'}"
        f" {_amount(limit, evaluation.projected)} of {_amount(limit, limit.hard)} {unit} ({evaluation.percent}%)."
        + _consequence(event)
    )


def _consequence(event: LimitEvent) -> str:
    if not event.is_hard:
        return ""
    match event.evaluation.limit.mode:
        case Mode.ENFORCED:
            return " What does not fit is refused."
        case mode:
            return f" Nothing is refused, as it is in mode {mode.value}."


def _amount(limit: Limit, amount: int) -> str:
    return usd_text(amount) if limit.meter is Meter.COST_USD else str(amount)


def _past(event: LimitEvent) -> Literal["soft", "hard"]:
    return "hard" if event.is_hard else "soft"
