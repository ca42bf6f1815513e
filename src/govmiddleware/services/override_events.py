"""What approvers hear of overrides: a webhook message when one is asked for, and when it is decided or ends."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import msgspec

from govmiddleware.core.overrides import Override, OverrideState
from govmiddleware.core.wording import amount_words, duration_words, slack_section, slack_text
from govmiddleware.services.links import Links
from govmiddleware.services.overrides import override_shown
from govmiddleware.services.webhook_delivery import WebhookDelivery

_WORDS = {
    OverrideState.APPROVED: "is approved and in force",
    OverrideState.DENIED: "is denied",
    OverrideState.REVOKED: "is revoked",
    OverrideState.SPENT: "is spent",
    OverrideState.EXPIRED: "has expired",
}


class OverrideEvents:
    """Sends them. They never wait: `services.overrides` calls them on its way."""

    def __init__(self, webhook: WebhookDelivery, links: Links) -> None:
        self._webhook = webhook
        self._links = links

    def tell(self, override: Override) -> None:
        """That it is asked for, or is something else now."""
        self._webhook.send(event_id(override), message(override, self._links.override(override.id)))


def event_type(override: Override) -> str:
    """`override.` and its state; `override.approval` for one of two approvals."""
    is_first = override.state is OverrideState.REQUESTED and override.approvals
    return "override.approval" if is_first else f"override.{override.state}"


def event_id(override: Override) -> str:
    """`evt_` and 32 hex digits: the same for the same step of the same override."""
    step = msgspec.json.encode([override.id, event_type(override)])
    return f"evt_{hashlib.sha256(step).hexdigest()[:32]}"


def message(override: Override, page: str) -> bytes:
    """The JSON that a webhook gets: `type` and `data`, the override as the API shows it, and what Slack's incoming
    webhooks show: `text`, and `blocks` with buttons that lead to its page
    (https://docs.slack.dev/reference/block-kit/blocks)."""
    text = sentence(override)
    return msgspec.json.encode(
        {
            "text": slack_text(text),
            "blocks": [
                {"type": "section", "text": {"type": "mrkdwn", "text": slack_section(text)}},
                {"type": "actions", "elements": _buttons(override, page)},
            ],
            "type": event_type(override),
            "id": event_id(override),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": {**override_shown(override, None), "page": page},
        }
    )


def sentence(override: Override) -> str:
    """For people."""
    meter = override.meter.value
    shown = override_shown(override, None)
    raised = (
        f"{override.factor} times the limit"
        if override.amount is None
        else f"{amount_words(shown['amount'], meter)} more"
    )
    about = (
        f"limit {override.limit!r} of workspace {override.workspace} for {override.scope} {override.value!r}:"
        f" {raised} for {duration_words(override.seconds)}"
    )
    if override.state is not OverrideState.REQUESTED:
        return f"The override of {about}, {_WORDS[override.state]}."
    asker = override.requester + (f" (for {override.for_user!r})" if override.for_user else "")
    given, wanted = len(override.approvals), override.approvals_required
    return f"{asker} asks for an override of {about}. {given} of {wanted} approved. Reason: {override.reason}"


def _buttons(override: Override, page: str) -> list[dict[str, object]]:
    decide = f"{page}#decide"
    match override.state:
        case OverrideState.REQUESTED:
            return [_button("Approve", decide, "primary"), _button("Deny", decide, "danger")]
        case OverrideState.APPROVED:
            return [_button("Revoke", decide, "danger")]
        case _:
            return [_button("Show", page)]


def _button(text: str, url: str, style: str | None = None) -> dict[str, object]:
    button: dict[str, object] = {
        "type": "button",
        "text": {"type": "plain_text", "text": text},
        "url": url,
        "action_id": text.lower(),
    }
    return button if style is None else {**button, "style": style}
