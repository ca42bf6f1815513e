"""The rules of budgets, without input and output: each operation is a generator that yields what it asks of the store
and is sent the answers, so that the asynchronous and the synchronous objects run the same one."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Generator, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeVar

import msgspec

from govmiddleware.budgets import caps as terms
from govmiddleware.budgets.caps import Amount, BudgetUsage, Caps, Money, Step
from govmiddleware.core.adjustments import Action, Adjusted, Adjustment, Look, Member, NotAdjusted, Seen
from govmiddleware.core.attribution import LONGEST_NAME
from govmiddleware.core.limits import Counter, Meter
from govmiddleware.core.money import nano_usd, usd_text
from govmiddleware.core.prices import PriceBook
from govmiddleware.core.refusals import ModelNotPriced
from govmiddleware.core.scopes import PAIR, PLAIN_NAME, pair_value
from govmiddleware.core.usage import Usage
from govmiddleware.core.windows import Lifetime
from govmiddleware.errors import BudgetExhaustedError, ConfigurationError
from govmiddleware.services import records

_SCOPE = "budget"
_METERS = (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS, Meter.COST_USD, Meter.REQUESTS, Meter.WALL_CLOCK)
"""What is counted of each owner, in this order. Total tokens are the sum of two."""
_AT_ONCE = 100
"""Members whose usage is asked for in one trip."""


class MembersOf(msgspec.Struct, frozen=True):
    """Asks for the names of a book's members."""

    book: str


Question = Adjustment | Look | MembersOf

T = TypeVar("T")
Operation = Generator[Question, Any, T]
"""Yields questions, is sent the store's answers, and returns what the caller gets."""


class _Standing(msgspec.Struct, frozen=True):
    """Where the owners of a step stand: all together, and the member; None for one that there is not."""

    whole: BudgetUsage | None
    own: BudgetUsage | None

    @property
    def asked_for(self) -> BudgetUsage:
        found = self.own or self.whole
        assert found is not None, "a book without a whole is asked about members alone"
        return found


class Book:
    """A budget: counters of all together (unless `whole` is None), and of each user or session.

    Args:
        kind: what its members are. Users are all under the caps `each` as they are now, sessions under those that
            were in force when they began.
        warn_at: the part of a cap from which on steps carry a warning.
        most: members; beyond them the one not used for the longest is forgotten.
        idle_seconds: a member that was not used for so long is forgotten; None: never.

    Raises ConfigurationError.
    """

    def __init__(
        self,
        kind: Literal["user", "session"],
        name: str,
        *,
        workspace: str,
        whole: Caps | None,
        each: Caps,
        warn_at: float | Decimal,
        most: int,
        idle_seconds: float | None,
        prices: PriceBook,
    ) -> None:
        for key, text in (("name", name), ("workspace", workspace)):
            if not re.fullmatch(PLAIN_NAME, text):
                raise ConfigurationError(key, text, "1 to 64 letters, digits, dots, dashes or underscores")
        if not 0 < warn_at <= 1:
            raise ConfigurationError("warn_at", warn_at, "a part above 0 and up to 1, such as 0.8")
        if most < 1:
            raise ConfigurationError(f"max_{kind}s", most, "1 or more")
        if idle_seconds is not None and idle_seconds <= 0:
            raise ConfigurationError("idle_seconds", idle_seconds, "seconds above 0, or None for never")
        self.kind = kind
        self.name = name
        self.workspace = workspace
        self.whole = whole
        self.each = each
        self._warn_at = Decimal(str(warn_at))
        self._most = most
        self._idle_ms = None if idle_seconds is None else max(1, round(idle_seconds * 1000))
        self._prices = prices
        self._scope = _SCOPE + PAIR + kind
        self._book = f"{self._scope}:{name}"

    # Operations ----------------------------------------------------------------------------------

    def allows_step(self, member: str | None) -> Operation[Step]:
        """The first cap that is reached, all together before the member. Begins wall clocks, and sessions."""
        standing = yield from self._begin(member)
        reasons, warnings = [], []
        for prefix, words, usage in self._owners(standing):
            reasons.append(prefix + name if (name := usage.reached()) else None)
            warnings += [words + warning for warning in usage.warnings(self._warn_at)]
        return Step(next(filter(None, reasons), None), tuple(warnings), standing.asked_for)

    def check(
        self, member: str | None, usage: Usage, model: str | None, cost_usd: Money | None
    ) -> Operation[None]:
        """Raises BudgetExhaustedError where a cap is reached, or has no room for what is estimated."""
        cost = yield from self._cost(member, usage, model, cost_usd)
        standing = yield from self._begin(member)
        asked: dict[str, Amount] = {
            "max_tokens": usage.total_tokens,
            "max_input_tokens": usage.input_tokens,
            "max_output_tokens": usage.output_tokens,
            "max_cost_usd": _usd(cost),
            "max_wall_clock": 0,
        }
        for prefix, _, found in self._owners(standing):
            for name, _, used, cap in found.against_caps():
                if used >= cap or used + asked[name] > cap:
                    owner = self.name if member is None or found is standing.whole else member
                    raise BudgetExhaustedError(owner, used, cap, reason=prefix + name)

    def consume(
        self, member: str | None, usage: Usage, model: str | None, cost_usd: Money | None, key: str | None
    ) -> Operation[BudgetUsage]:
        """Count what was used, past caps too. Returns what is used now."""
        cost = yield from self._cost(member, usage, model, cost_usd)
        counters = self._counters(member)
        amounts = (usage.input_tokens, usage.output_tokens, cost, 1, 0) * (len(counters) // len(_METERS))
        record = self._record("consumed", member, usage=usage, cost=cost, model=model)
        made = yield from self._adjust(Action.ADD, counters, amounts, record, member, self._id(member, key))
        now_used = [used + change for used, change in zip(made.used, made.changes, strict=True)]
        return self._standing(member, now_used, made.terms).asked_for

    def usage_for(self, member: str | None) -> Operation[BudgetUsage]:
        """What is used now; nothing for whom it does not know."""
        seen = yield from self._look(member)
        return self._standing(member, seen.used, _terms_of(seen)).asked_for

    def all_usage(self) -> Operation[dict[str, BudgetUsage]]:
        names = yield MembersOf(self._book)
        found: dict[str, BudgetUsage] = {}
        for start in range(0, len(names), _AT_ONCE):
            some = tuple(names[start : start + _AT_ONCE])
            counters = tuple(counter for name in some for counter in self._owned(name))
            seen: Seen = yield Look(counters, self._book, some)
            for index, (name, member) in enumerate(zip(some, seen.members, strict=True)):
                used = seen.used[index * len(_METERS) : (index + 1) * len(_METERS)]
                if not self._is_gone(member.unused_ms):
                    found[name] = _usage(used, self._caps(member.terms))
        return found

    def exists(self, member: str) -> Operation[bool]:
        seen: Seen = yield Look((), self._book, (self._checked(member),))
        return not self._is_gone(seen.members[0].unused_ms)

    def open(self, session: str, caps: Caps) -> Operation[BudgetUsage]:
        """Begin a session under caps of its own, unless it has begun."""
        made = yield from self._adjust(Action.ADD, (), (), None, session, self._id(session), caps)
        seen = yield from self._look(session)
        return self._standing(session, seen.used, made.terms).asked_for

    def reset(self, member: str | None) -> Operation[None]:
        """Take back what is used: of a member, or of all together and of every one."""
        names = (yield MembersOf(self._book)) if member is None else [member]
        owners: list[str | None] = [None] if member is None else []
        for owner in [*owners, *names]:
            counters = self._counters(None) if owner is None else self._owned(owner)
            record = self._record("reset", owner)
            yield from self._adjust(Action.RESET, counters, (), record, owner, self._id(owner))

    def close(self, member: str | None) -> Operation[BudgetUsage | None]:
        """Forget a member, or the whole budget with all members. The final figures; None for what is unknown."""
        if member is None:
            for name in (yield MembersOf(self._book)):
                yield from self.close(name)
        elif not (yield from self.exists(member)):
            return None
        counters = self._counters(None) if member is None else self._owned(member)
        record = self._record("closed", member)
        made = yield from self._adjust(Action.FORGET, counters, (), record, member, self._id(member))
        caps = self.whole if member is None else self._caps(made.terms)
        final = _usage(made.used, caps or Caps())
        return None if member is None and not final.requests else final

    # Questions -----------------------------------------------------------------------------------

    def _begin(self, member: str | None) -> Operation[_Standing]:
        """Where a step finds its owners. Starts clocks that caps look at, and sessions."""
        seen = yield from self._look(member)
        counters, text = self._counters(member), _terms_of(seen)
        standing = self._standing(member, seen.used, text)
        clocks = tuple(
            counter
            for counter, used in zip(counters, seen.used, strict=True)
            if used is None and self._owner_of(counter, standing).caps.max_wall_clock is not None
        )
        if clocks or (self.kind == "session" and not text):
            made = yield from self._adjust(
                Action.ADD, clocks, (0,) * len(clocks), None, member, self._id(member)
            )
            standing = self._standing(member, seen.used, made.terms)
        return standing

    def _look(self, member: str | None) -> Operation[Seen]:
        """At the owners of a step; a member that was idle is forgotten before."""
        members = () if member is None else (self._checked(member),)
        look = Look(self._counters(member), self._book, members)
        seen: Seen = yield look
        unused_ms = seen.members[0].unused_ms if seen.members else None
        if member is not None and unused_ms is not None and self._is_gone(unused_ms):
            yield from self._forget(member)
            seen = yield look
        return seen

    def _adjust(
        self,
        action: Action,
        counters: Sequence[Counter],
        amounts: Sequence[int],
        record: bytes | None,
        member: str | None,
        adjustment_id: str,
        caps: Caps | None = None,
    ) -> Operation[Adjusted]:
        adjustment = Adjustment(
            id=adjustment_id,
            action=action,
            counters=tuple(counters),
            amounts=tuple(amounts),
            record=record,
            member=None if member is None else self._member(member, caps),
        )
        while (made := (yield adjustment)) is NotAdjusted.IDLE:
            assert member is not None, "nobody else is idle"
            yield from self._forget(member)
        for name in made.idle:
            yield from self._forget(name)
        assert isinstance(made, Adjusted)
        return made

    def _forget(self, member: str) -> Operation[None]:
        """One that is idle, or one too many."""
        yield Adjustment(
            id=self._id(member),
            action=Action.FORGET,
            counters=self._owned(member),
            record=self._record("expired", member),
            member=self._member(member),
            if_idle=True,
        )

    def _cost(
        self, member: str | None, usage: Usage, model: str | None, cost_usd: Money | None
    ) -> Operation[int]:
        """nano-USD. Never nothing by accident: where a cap is on cost, somebody has to say what was spent.

        Raises ModelNotPriced, ValueError, and ConfigurationError for a cost that is no amount.
        """
        for name in ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"):
            terms.count(getattr(usage, name), name)
        if cost_usd is not None:
            return nano_usd(terms.usd(cost_usd, "cost_usd"))
        if model is not None:
            if (price := self._prices.find(model)) is None:
                raise ModelNotPriced(f"Model {model!r} has no price: configure one, or give cost_usd.")
            return price.cost(usage)
        caps = [self.whole, self.each]
        if self.kind == "session" and member is not None:
            seen: Seen = yield Look((), self._book, (member,))
            caps = [self._caps(seen.members[0].terms)]
        if any(each is not None and each.max_cost_usd is not None for each in caps):
            raise ValueError("a budget with max_cost_usd needs model=, whose price is known, or cost_usd=")
        return 0

    # Owners --------------------------------------------------------------------------------------

    def _counters(self, member: str | None) -> tuple[Counter, ...]:
        """Of all together, if they are counted, and of the member."""
        whole = () if self.whole is None else _counters(_SCOPE, self.name)
        return whole if member is None else whole + self._owned(member)

    def _owned(self, member: str) -> tuple[Counter, ...]:
        return _counters(self._scope, pair_value(self.name, self._checked(member)))

    def _owners(self, standing: _Standing) -> list[tuple[str, str, BudgetUsage]]:
        """Those that there are, with what their caps and their warnings begin with."""
        own = ("per_user_", "per-user ") if self.kind == "user" else ("", "")
        each = [("", "", standing.whole), (*own, standing.own)]
        return [(prefix, words, usage) for prefix, words, usage in each if usage is not None]

    def _owner_of(self, counter: Counter, standing: _Standing) -> BudgetUsage:
        found = standing.whole if counter.scope == _SCOPE else standing.own
        assert found is not None, "who has counters stands somewhere"
        return found

    def _standing(self, member: str | None, used: Sequence[int | None], text: str) -> _Standing:
        """From what the counters of `_counters` have used, and the member's terms."""
        size = len(_METERS)
        whole = None if self.whole is None else _usage(used[:size], self.whole)
        own = None if member is None else _usage(used[-size:], self._caps(text))
        return _Standing(whole, own)

    def _caps(self, text: str) -> Caps:
        """Those in force for a member: users' are this moment's, sessions' those that they began with."""
        return terms.decode(text) if self.kind == "session" and text else self.each

    def _member(self, name: str, caps: Caps | None = None) -> Member:
        text = terms.encode(caps or self.each)
        return Member(self._book, self._checked(name), text, self._idle_ms, self._most)

    def _is_gone(self, unused_ms: int | None) -> bool:
        return unused_ms is None or (self._idle_ms is not None and unused_ms >= self._idle_ms)

    def _checked(self, member: str) -> str:
        if not (0 < len(member) <= LONGEST_NAME and member.isprintable()):
            raise ValueError(f"{self.kind} = {member!r}: expected 1 to {LONGEST_NAME} printable characters")
        return member

    def _id(self, member: str | None, key: str | None = None) -> str:
        if key is None:
            return secrets.token_hex(16)
        return hashlib.sha256(msgspec.json.encode([self._book, member, key])).hexdigest()

    def _record(
        self,
        outcome: str,
        member: str | None,
        *,
        usage: Usage | None = None,
        cost: int | None = None,
        model: str | None = None,
    ) -> bytes:
        return records.encode(
            records.Record(
                kind="adjustment",
                workspace=self.workspace,
                user=member if self.kind == "user" else None,
                session=member if self.kind == "session" else None,
                tags={"budget": self.name},
                model_requested=model,
                usage=usage,
                cost_usd=None if cost is None else usd_text(cost),
                price_version=self._prices.version if model else None,
                outcome=outcome,
            )
        )


def _counters(scope: str, value: str) -> tuple[Counter, ...]:
    return tuple(Counter(scope, meter, Lifetime(), value) for meter in _METERS)


def _usage(used: Sequence[int | None], caps: Caps) -> BudgetUsage:
    input_tokens, output_tokens, cost, requests, seconds = (amount or 0 for amount in used)
    return BudgetUsage(input_tokens, output_tokens, _usd(cost), requests, seconds, caps)


def _terms_of(seen: Seen) -> str:
    return seen.members[0].terms if seen.members else ""


def _usd(nano: int) -> Decimal:
    return Decimal(usd_text(nano))
