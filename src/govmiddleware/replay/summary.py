"""What a replay ends with: what was spent, and who would have been blocked, when."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from govmiddleware.core.money import usd_text
from govmiddleware.core.refusals import Decision, Evaluation
from govmiddleware.core.times import rfc3339
from govmiddleware.replay.player import Played
from govmiddleware.replay.trial import Verdict

_MOST_ROWS = 1000
"""Values of limits that are told apart: further ones count in the row of their limit's others."""
OTHERS = "(others)"


@dataclass(slots=True)
class Blocked:
    """What one limit would have blocked for one value."""

    limit: str
    value: str
    mode: str
    first: datetime
    last: datetime
    calls: int = 0
    cost: int = 0


@dataclass(slots=True)
class Summary:
    """Counts as exchanges are played. Costs in nano-USD.

    Attributes:
        not_taken: what the stack refuses whatever the limits; `refused`: what limits refuse.
        recorded: what all exchanges cost that have a price.
        spent: what would have been spent under the limits.
    """

    exchanges: int = 0
    bad_lines: int = 0
    unpriced: int = 0
    not_read: int = 0
    not_taken: int = 0
    refused: int = 0
    would_refuse: int = 0
    cut: int = 0
    recorded: int = 0
    spent: int = 0
    first: datetime | None = None
    last: datetime | None = None
    blocked: dict[tuple[str, str], Blocked] = field(default_factory=dict)

    def add(self, played: Played, at: datetime, verdict: Verdict | None) -> None:
        """One exchange; without a verdict there are no limits."""
        self.exchanges += 1
        self.first = self.first or at
        self.last = at
        cost = played.cost or 0
        self.unpriced += played.usage is not None and played.cost is None
        self.not_taken += played.refusal is not None
        self.recorded += cost
        if verdict is None:
            self.spent += 0 if played.refusal else cost
            return
        self.spent += verdict.spent
        self.refused += verdict.refusal is not None
        self.would_refuse += verdict.would_refuse is not None
        self.cut += verdict.was_cut
        for evaluation in verdict.evaluations:
            if evaluation.decision is Decision.BLOCK:
                self._row(evaluation, at).calls += 1
                self._row(evaluation, at).cost += cost

    def _row(self, evaluation: Evaluation, at: datetime) -> Blocked:
        limit = evaluation.limit
        key = (limit.name, evaluation.value)
        if key not in self.blocked and len(self.blocked) >= _MOST_ROWS:
            key = (limit.name, OTHERS)
        row = self.blocked.setdefault(key, Blocked(*key, limit.mode.value, at, at))
        row.last = at
        return row

    def as_json(self) -> dict[str, object]:
        return {
            "exchanges": self.exchanges,
            "bad_lines": self.bad_lines,
            "not_read": self.not_read,
            "not_taken": self.not_taken,
            "unpriced": self.unpriced,
            "first_at": self.first and rfc3339(self.first),
            "last_at": self.last and rfc3339(self.last),
            "recorded_usd": usd_text(self.recorded),
            "spent_usd": usd_text(self.spent),
            "refused": self.refused,
            "would_refuse": self.would_refuse,
            "cut": self.cut,
            "blocked": [
                {
                    "limit": row.limit,
                    "value": row.value,
                    "mode": row.mode,
                    "calls": row.calls,
                    "recorded_usd": usd_text(row.cost),
                    "first_at": rfc3339(row.first),
                    "last_at": rfc3339(row.last),
                }
                for row in self.blocked.values()
            ],
        }
