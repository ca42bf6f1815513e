"""The settings of a limit: an entry of `[[limits]]`, and what the store keeps of one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import ROUND_CEILING, Decimal
from typing import Annotated

import msgspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)

from govmiddleware.core.limits import MILDNESS, Limit, Meter, Mode
from govmiddleware.core.local_time import is_timezone
from govmiddleware.core.money import LARGEST_LIMIT, nano_usd, usd_text
from govmiddleware.core.scopes import PAIR, Scope, is_deployment_wide, is_scope, pair_value
from govmiddleware.core.windows import (
    UTC,
    CalendarUnit,
    CalendarWindow,
    Lifetime,
    Now,
    PeriodWindow,
    SlidingWindow,
    Window,
)
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings_errors import configuration_errors
from govmiddleware.settings_fields import (
    Frozen,
    PlainName,
    Rate,
    WorkspaceName,
    check_name,
    no_bool,
    parsed_rate,
)

_LONGEST_PERIOD = 3660
"""Days: ten years."""


def _read_scope(given: object) -> str:
    parts = list(given) if isinstance(given, list | tuple) else str(given).split(PAIR)
    scope = PAIR.join(map(str, parts))
    if not is_scope(scope) or (not isinstance(given, str) and len(parts) != 2):
        raise ValueError(f"one of {', '.join(Scope)} or tag:NAME, or a list of two of them")
    return scope


def _read_value(given: object) -> str | tuple[str, str]:
    match given:
        case str():
            return check_name(given)
        case [str() as one, str() as other]:
            return check_name(one), check_name(other)
        case _:
            raise ValueError("a text; for a pair of scopes a list of two")


def _check_window(text: str) -> str:
    if text not in (*CalendarUnit, "lifetime") and not 1 <= _days(text) <= _LONGEST_PERIOD:
        units = ", ".join(CalendarUnit)
        raise ValueError(f"one of {units} or lifetime, or 1 to {_LONGEST_PERIOD} days, such as 30d")
    return text


def _days(window: str) -> int:
    """Of an N-day window; 0 where it is none."""
    match = re.fullmatch(r"([0-9]{1,6})d", window)
    return int(match[1]) if match else 0


def _check_timezone(name: str) -> str:
    if not is_timezone(name):
        raise ValueError("the name of an IANA time zone, such as Europe/Berlin, or UTC")
    return name


def _read_anchor(given: object) -> date:
    if type(given) is date:  # a datetime is one too, but not of this type
        return given
    try:
        return date.fromisoformat(given if isinstance(given, str) else "")
    except ValueError:
        raise ValueError("a date, such as 2026-01-01") from None


Amount = Annotated[Decimal, Field(ge=0, le=LARGEST_LIMIT)]


class LimitDefaults(msgspec.Struct, frozen=True):
    """What limits take from the settings of the whole deployment.

    Attributes:
        soft_fraction: the part of hard that is soft, where a limit does not say.
        mode: the milder of it and a limit's own wins.
    """

    soft_fraction: float = 0.8
    mode: Mode = Mode.ENFORCED


class LimitSettings(Frozen):
    """A limit: `rate`, or `window` and `hard`; `hard` alone for concurrency and, if one likes, wall_clock.

    A pair of scopes is a list of two, or both joined by `+`. The value of a pair is a list of two; beside
    `deployment`, which has no values, it is that of the other scope.
    """

    name: PlainName
    scope: Annotated[str, BeforeValidator(_read_scope)]
    meter: Meter
    rate: Rate | None = None
    window: Annotated[str, AfterValidator(_check_window)] | None = None
    timezone: Annotated[str, AfterValidator(_check_timezone)] | None = None
    anchor: Annotated[date, BeforeValidator(_read_anchor)] | None = None
    soft: Amount | None = None
    hard: Amount | None = None
    value: Annotated[str | tuple[str, str], BeforeValidator(_read_value)] | None = None
    default: StrictBool = False
    workspace: WorkspaceName | None = None
    mode: Mode = Mode.ENFORCED
    approvals_required: Annotated[int, BeforeValidator(no_bool), Field(ge=1, le=2)] = 1

    @model_validator(mode="after")
    def _has_a_window(self) -> LimitSettings:
        if self.meter is Meter.CONCURRENCY:
            if self.rate or self.window or self.hard is None:
                raise ValueError("concurrency takes hard alone: it has no window")
        elif self.meter is Meter.WALL_CLOCK:
            if self.rate or self.hard is None:
                raise ValueError("wall_clock takes hard, in seconds, and perhaps a window, but no rate")
        elif (self.rate is None) == (self.window is None):
            raise ValueError("either rate, or window together with hard")
        elif (self.window is None) != (self.hard is None):
            raise ValueError("window and hard go together; a rate has its value in it")
        days = _days(self.window or "")
        if (self.anchor is not None) != (days > 0):
            raise ValueError(
                "anchor together with a window of days, such as 30d: a date that one begins with"
            )
        if self.timezone is not None and not days and self.window not in list(CalendarUnit):
            raise ValueError("timezone with a window that the calendar ends: hour, day, week, month or 30d")
        return self

    @model_validator(mode="after")
    def _has_amounts_that_can_be_counted(self) -> LimitSettings:
        for name, amount in (("hard", self.hard), ("soft", self.soft)):
            if amount is not None and self.meter is not Meter.COST_USD and amount % 1:
                raise ValueError(f"a whole number as {name}, for everything but cost_usd")
        if self._hard() > LARGEST_LIMIT:
            raise ValueError(f"at most {LARGEST_LIMIT} (money: about 4.5 million USD)")
        if self.soft is not None and self._in_unit(self.soft) > self._hard():
            raise ValueError("soft no larger than hard, or than the amount of the rate")
        return self

    @model_validator(mode="after")
    def _binds_what_there_is(self) -> LimitSettings:
        if self.workspace is not None and is_deployment_wide(self.scope):
            raise ValueError("workspace with a scope within it: deployment counts over all of them")
        if self.approvals_required > 1 and is_deployment_wide(self.scope):
            raise ValueError(
                "approvals_required = 1 with deployment: only who has the admin token can approve"
            )
        if self.default and self.value is not None:
            raise ValueError("default = true, for values that no other limit names, or a value, not both")
        named = [part for part in self.scope.split(PAIR) if part != Scope.DEPLOYMENT]
        if not named and (self.default or self.value is not None):
            raise ValueError("neither value nor default with deployment: there is one")
        if self.value is not None and len(named) != len(self._values):
            expected = (
                "a list of two as value, one for each scope" if len(named) == 2 else "one text as value"
            )
            raise ValueError(expected)
        return self

    def limit(self, deployment: LimitDefaults) -> Limit:
        """The limit in force. A soft value that is not given is the least whole amount of the meter's unit
        that is at least `soft_fraction` of hard."""
        hard = self._hard()
        if self.soft is None:
            part = hard * Decimal(str(deployment.soft_fraction))
            soft = int(part.to_integral_value(ROUND_CEILING))
        else:
            soft = self._in_unit(self.soft)
        return Limit(
            name=self.name,
            scope=self.scope,
            meter=self.meter,
            window=self._window(),
            hard=hard,
            value=self._pinned(),
            soft=soft,
            mode=max(self.mode, deployment.mode, key=MILDNESS.index),
            workspace=self.workspace,
            is_default=self.default,
            approvals_required=self.approvals_required,
        )

    def fields(self) -> dict[str, object]:
        """What is set, for JSON, in the names of the file. Money is a decimal string."""
        fields = self.model_dump(mode="json", exclude_none=True)
        for name, amount in (("hard", self.hard), ("soft", self.soft)):
            if amount is not None:
                unit = self._in_unit(amount)
                fields[name] = usd_text(unit) if self.meter is Meter.COST_USD else unit
        return fields

    def value_of(self, scope: Scope) -> str | None:
        """The value that it binds of one scope, which may be half of a pair."""
        named = [part for part in self.scope.split(PAIR) if part != Scope.DEPLOYMENT]
        return dict(zip(named, self._values, strict=False)).get(scope)

    @property
    def _values(self) -> tuple[str, ...]:
        match self.value:
            case None:
                return ()
            case str():
                return (self.value,)
            case _:
                return self.value

    def _pinned(self) -> str | None:
        """As `core.scopes.value_in` has it for a call."""
        if self.value is None:
            return None
        if PAIR not in self.scope:
            return self._values[0]
        values = iter(self._values)
        parts = self.scope.split(PAIR)
        return pair_value(*(part if part == Scope.DEPLOYMENT else next(values) for part in parts))

    def _window(self) -> Window:
        if self.rate is not None:
            return SlidingWindow(parsed_rate(self.rate).get_expiry())
        match self.window:
            case None:
                return Now() if self.meter is Meter.CONCURRENCY else Lifetime()
            case "lifetime":
                return Lifetime()
            case unit if unit in list(CalendarUnit):
                return CalendarWindow(CalendarUnit(unit), self.timezone or UTC)
            case period:
                assert self.anchor is not None, "it goes with such a window"
                return PeriodWindow(_days(period), self.anchor, self.timezone or UTC)

    def _hard(self) -> int:
        return self._in_unit(self.hard if self.hard is not None else parsed_rate(self.rate or "").amount)

    def _in_unit(self, amount: Decimal | int) -> int:
        return nano_usd(amount) if self.meter is Meter.COST_USD else int(amount)


def read_limit(fields: Mapping[str, object], providers: Sequence[str]) -> LimitSettings:
    """A limit from somewhere else than the file, in the file's names.

    Args:
        providers: the names of the upstreams, as values of scope `provider`.

    Raises ConfigurationError: its key is that of the field, or `limit` for several that do not go together.
    """
    try:
        limit = LimitSettings.model_validate(dict(fields))
    except ValidationError as error:
        raise configuration_errors(error, whole="limit") from None
    check_provider(limit, "value", providers)
    return limit


def check_provider(limit: LimitSettings, key: str, providers: Sequence[str]) -> None:
    """Raises ConfigurationError for a limit on an upstream that there is not; `key`: where its value stands."""
    if limit.value_of(Scope.PROVIDER) not in (None, *providers):
        raise ConfigurationError(key, limit.value, f"the name of an upstream: {', '.join(providers)}")
