"""The line that each governed request leaves in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import lru_cache
from urllib.parse import quote

import msgspec

from govmiddleware.core.call import Call
from govmiddleware.core.charge import Outcome
from govmiddleware.core.money import usd_text
from govmiddleware.core.refusals import Decision, LimitRefusal
from govmiddleware.logs import Line

logger = logging.getLogger("govmiddleware.requests")

_SAID = frozenset(("method", "path", "status"))
"""By the summary."""

_OPERATORS_MATTER = (401, 403, 429)
"""Of an upstream's answers: its credential is wrong, or there is too much for it."""


class RequestLog(msgspec.Struct, frozen=True):
    """Writes one line a request, with the journal's names for what it says.

    Warnings are what an operator has to look at: answers of 5xx, ours or the upstream's, answers that broke off, and
    an upstream that will not have us. All else is information, refusals too: a limit that does its job is none of
    that, and each crossing of a limit is told of once for itself.

    Args:
        sample: the share of plain requests that is logged, 0 to 1; the others are at level DEBUG. Always logged are
            refusals, errors, what was slow, and what a budget had something to say of.
        slow_seconds: from how long on a request is slow.
        prompt_characters: so much of each request's body is logged, as it was sent upstream.
    """

    sample: float = 1.0
    slow_seconds: float = 60.0
    prompt_characters: int = 0

    def write(self, call: Call, error: BaseException | None = None) -> None:
        """A call has ended, by `error` where it was raised through the stack."""
        level, sample = _level(call, error), None
        if not logger.isEnabledFor(level):
            return
        seconds = time.monotonic() - call.started
        if self.sample < 1 and level == logging.INFO and not self._always(call, error, seconds):
            sample = self.sample
            if not _is_chosen(call.request_id, sample):
                level = logging.DEBUG
                if not logger.isEnabledFor(level):
                    return
        fields = _fields(call, error, seconds)
        if sample is not None:
            fields["sample"] = sample
        if self.prompt_characters:
            fields["request_body"] = self._prompt(call)
        line = Line(_summary(call.method, call.path, call.status), fields, said=_SAID)
        # As `logger.log`, which would go through the stack to find what is said here.
        record = logger.makeRecord(
            logger.name, level, __file__, 0, line, (), None, func="write", extra={"gov": fields}
        )
        logger.handle(record)

    def _always(self, call: Call, error: BaseException | None, seconds: float) -> bool:
        budgets_spoke = any(
            evaluation.decision is not Decision.ALLOW and not evaluation.limit.refuses_as_rate
            for evaluation in call.evaluations
        )
        return (
            _outcome(call, error) != Outcome.ANSWERED
            or (call.status or 0) >= 400
            or seconds >= self.slow_seconds
            or budgets_spoke
            or call.would_refuse is not None
            or call.granted_output is not None
        )

    def _prompt(self, call: Call) -> str | None:
        if call.body is None or not call.body.typed:  # forms are files
            return None
        start = call.body.serialise()[: 4 * self.prompt_characters]  # no character has more bytes
        return start.decode(errors="replace")[: self.prompt_characters]


def failure(call: Call, error: BaseException | None) -> str | None:
    """What went wrong, of which no refusal of ours or status tells: a code, or the name of an exception."""
    if call.upstream_failure is not None or error is None:
        return call.upstream_failure
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__qualname__


@lru_cache
def _summary(method: str, path: str, status: int | None) -> str:
    return f"{method} {quote(path, safe='/:@', errors='replace')} {status or '-'}"


def _level(call: Call, error: BaseException | None) -> int:
    status, is_ours = call.status or 0, call.refusal is not None
    refused_us = call.model_call and not is_ours and status in _OPERATORS_MATTER
    if status >= 500 or refused_us or call.upstream_failure or isinstance(error, Exception):
        return logging.WARNING
    return logging.INFO


def _outcome(call: Call, error: BaseException | None) -> str:
    if call.charge is not None:
        return str(call.charge.outcome)
    if call.refusal is not None:
        return "refused"
    return str(Outcome.ANSWERED if error is None else Outcome.ABORTED)


def _is_chosen(request_id: str, sample: float) -> bool:
    """By the random part of the id, so that every line of a request fares the same."""
    return int(request_id[-8:], 16) < sample * 2**32


def _fields(call: Call, error: BaseException | None, seconds: float) -> dict[str, object]:
    principal, attribution, refusal, charge = call.principal, call.attribution, call.refusal, call.charge
    usage = charge.usage if charge and call.demand else None
    limit = refusal.failures[0].limit.name if isinstance(refusal, LimitRefusal) else None
    parent, started, first_byte = call.parent, call.started, call.first_byte
    return {
        "request_id": call.request_id,
        "parent_request_id": parent.request_id if parent else None,
        "client_request_id": call.client_request_id,
        "upstream_request_id": call.upstream_request_id,
        "trace_id": call.trace_id,
        "workspace": principal and principal.workspace,
        "api_token": principal and principal.api_token,
        "api_token_id": principal and principal.stored_id,
        "user": attribution.user,
        "session": attribution.session,
        "agent": attribution.agent,
        "tags": dict(attribution.tags) if attribution.tags else None,
        "method": call.method,
        "path": call.path,
        "protocol": call.protocol.name,
        "provider": call.provider,
        "model_requested": call.model,
        "model_served": call.model_served,
        "stream": call.stream,
        "status": call.status,
        "outcome": _outcome(call, error),
        "error": failure(call, error),
        "refusal": refusal and refusal.code,
        "limit": limit,
        "would_refuse": call.would_refuse and call.would_refuse.code,
        "settlement": charge and str(charge.settlement),
        "input_tokens": usage and usage.input_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "output_tokens": usage and usage.output_tokens,
        "reasoning_tokens": usage and usage.reasoning_tokens,
        "cost_usd": usd_text(charge.cost) if charge and usage else None,
        "duration_ms": round(seconds * 1000, 1),
        "first_byte_ms": None if first_byte is None else round((first_byte - started) * 1000, 1),
    }
