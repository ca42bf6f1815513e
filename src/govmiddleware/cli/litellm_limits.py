"""LiteLLM's budgets and rate limits as limits of ours: out of rows of its tables, and out of its configuration.

Source: litellm/proxy/schema.prisma, litellm_core_utils/duration_parser.py and the settings of proxy/_types.py, 1.106.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation

import msgspec

from govmiddleware.cli.rows import Row
from govmiddleware.cli.token_rows import litellm_key
from govmiddleware.core.scopes import TAG, Scope
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings_limits import read_limit

_WINDOWS = {
    "1h": "hour",
    "hourly": "hour",
    "1d": "day",
    "24h": "day",
    "daily": "day",
    "7d": "week",
    "1w": "week",
    "weekly": "week",
    "30d": "month",
    "1mo": "month",
    "monthly": "month",
}
"""Durations that LiteLLM resets by the calendar: `30d` on the first of the month, `7d` on Mondays."""

_STAYS = {
    "models": 'which models a key may use stays LiteLLM\'s: upstream_auth = "forward" lets it see the key',
    "blocked": "nobody is blocked here: revoke the API tokens",
    "temp_budget_increase": "an override does that: govmiddleware override request",
    "budget_fallbacks": "a call past its budget is refused or clamped here, not sent to another model",
    "allowed_model_region": "regions are deployments, and stay LiteLLM's",
}
_LONGEST_NAME = 64
_IN_FORCE_FOR_ALL = ("all-proxy-models", "all-team-models")


class Translation(msgspec.Struct):
    """What came of it.

    Attributes:
        limits: fields of `[[limits]]`, each checked.
        spent: by the limit's name, what LiteLLM says is used of it, in USD.
        left: what has no limit here, and why.
    """

    limits: list[dict[str, object]] = []
    spent: dict[str, Decimal] = {}
    left: list[str] = []
    _made: Counter[str] = msgspec.field(default_factory=Counter)
    """How many limits there are of a name: what is cut short, or of other letters, may become the same."""

    def add(self, name: str, fields: Mapping[str, object], where: str) -> str | None:
        """Returns the limit's name; None where there can be no such limit, which `left` tells."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:_LONGEST_NAME]
        self._made[name] += 1
        if (number := self._made[name]) > 1:
            name = f"{name[: _LONGEST_NAME - 7]}-{number}"
        try:
            read_limit({"name": name, **fields}, [])
        except ConfigurationError as error:
            self.left.append(f"{where}: a limit on {fields['scope']}: {error}")
            return None
        self.limits.append({"name": name, **fields})
        return name


class _Bound(msgspec.Struct, frozen=True):
    """Whom a limit binds.

    Attributes:
        scopes: one or two.
        values: of each; none where it is for each value that has no limit of its own.
    """

    what: str
    scopes: tuple[str, ...]
    values: tuple[str, ...] = ()

    def fields(self) -> dict[str, object]:
        one = len(self.scopes) == 1
        fields: dict[str, object] = {"scope": self.scopes[0] if one else list(self.scopes)}
        if self.values:
            fields["value"] = self.values[0] if one else list(self.values)
        elif self.scopes != (Scope.DEPLOYMENT,):
            fields["default"] = True
        return fields

    def with_model(self, model: str) -> _Bound:
        return _Bound(self.what, (*self.scopes, Scope.MODEL), (*self.values, model))

    def name(self, meter: str) -> str:
        return "-".join((self.what, *self.values, meter))


def translate_rows(done: Translation, rows: Sequence[Row]) -> None:
    """Add rows of any of LiteLLM's tables; budgets that others refer to are looked up among them."""
    budgets = {row.text("budget_id"): row for row in rows if _kind(row) == "budget"}
    used: set[str | None] = set()
    for row in rows:
        kind = _kind(row)
        if kind == "budget":
            continue
        if kind is None:
            done.left.append(f"{row.where}: none of LiteLLM's tables has these columns")
            continue
        fields: dict[str, object] = dict(row.fields)
        if (budget_id := row.text("budget_id")) is not None:
            used.add(budget_id)
            if budget_id not in budgets:
                done.left.append(f"{row.where}: budget_id {budget_id}: export LiteLLM_BudgetTable too")
            else:
                fields = {**budgets[budget_id].fields, **fields}
        _add_all(done, _bound(kind, row), fields, row.where)
    for budget_id in budgets.keys() - used:
        done.left.append(f"{budgets[budget_id].where}: budget {budget_id}: nothing here refers to it")


def translate_config(done: Translation, config: Mapping[str, object], where: str) -> None:
    """Add what `config.yaml` has for all, for each user and team, and for tags."""
    settings, general, router = (
        _mapping(config.get(name)) for name in ("litellm_settings", "general_settings", "router_settings")
    )
    everybody = _Bound("all", (Scope.DEPLOYMENT,))
    user, team = _Bound("each-user", (Scope.USER,)), _Bound("each-team", (f"{TAG}team",))
    _add_all(done, everybody, settings, f"{where}: litellm_settings")
    if (most := general.get("global_max_parallel_requests")) is not None:
        _add_all(done, everybody, {"max_parallel_requests": most}, f"{where}: general_settings")
    for budget, duration in (
        ("max_internal_user_budget", settings.get("internal_user_budget_duration")),
        ("max_end_user_budget", None),
    ):
        fields = {"max_budget": settings.get(budget), "budget_duration": duration}
        _add_all(done, user, fields, f"{where}: {budget}")
    for bound, name in ((user, "default_internal_user_params"), (team, "default_team_params")):
        _add_all(done, bound, _mapping(settings.get(name)), f"{where}: {name}")
    for tag, given in _mapping(settings.get("tag_budget_config")).items():
        _add_all(done, _tag(tag), _mapping(given), f"{where}: tag_budget_config")
    if settings.get("upperbound_key_generate_params"):
        done.left.append(
            f"{where}: upperbound_key_generate_params: API tokens are made by who may, as they say"
        )
    if router.get("provider_budget_config"):
        done.left.append(f"{where}: provider_budget_config: budgets of deployments stay LiteLLM's")
    models = config.get("model_list")
    for entry in map(_mapping, models if isinstance(models, list) else ()):
        params = _mapping(entry.get("litellm_params"))
        if limited := [
            name for name in ("rpm", "tpm", "max_parallel_requests", "max_budget") if name in params
        ]:
            done.left.append(
                f"{where}: {entry.get('model_name')}: {', '.join(limited)}: limits of deployments stay LiteLLM's"
            )


_TABLES = (
    ("key", {"token"}),
    ("team", {"team_alias"}),
    ("team", {"members_with_roles"}),
    ("organization", {"organization_alias"}),
    ("tag", {"tag_name"}),
    ("member", {"user_id", "team_id", "budget_id"}),
    ("end_user", {"user_id", "default_model"}),
    ("user", {"user_id", "max_budget"}),
    ("budget", {"budget_id", "max_budget"}),
)
"""By columns that only one table has; the first that fits."""


def _kind(row: Row) -> str | None:
    return next((kind for kind, columns in _TABLES if columns <= row.columns), None)


def _bound(kind: str, row: Row) -> _Bound:
    def value(column: str) -> str:
        return row.text(column) or ""

    match kind:
        case "key":
            return _Bound("key", (Scope.API_TOKEN,), (litellm_key(row)[1],))
        case "team":
            return _Bound("team", (f"{TAG}team",), (value("team_id"),))
        case "organization":
            return _Bound("organization", (f"{TAG}organization",), (value("organization_id"),))
        case "tag":
            return _tag(value("tag_name"))
        case "member":
            return _Bound("member", (f"{TAG}team", Scope.USER), (value("team_id"), value("user_id")))
        case _:
            return _Bound("user", (Scope.USER,), (value("user_id"),))


def _tag(text: str) -> _Bound:
    """As the header `x-litellm-tags` is read: a bare word is the value of the tag `tag`."""
    name, equals, value = text.partition("=")
    return _Bound("tag", (TAG + (name if equals else "tag"),), (value if equals else text,))


def _add_all(done: Translation, bound: _Bound, fields: Mapping[str, object], where: str) -> None:
    """Every limit that these fields of LiteLLM's come to, and what they leave."""
    _add_money(done, bound, fields, where)
    more = _parsed(fields, "budget_limits")
    for budget in map(_mapping, more if isinstance(more, list) else ()):
        _add_money(done, bound, {**budget, "budget_reset_at": budget.get("reset_at")}, where)
    for column, meter, unit in (
        ("tpm_limit", "total_tokens", "minute"),
        ("tpd_limit", "total_tokens", "day"),
        ("rpm_limit", "requests", "minute"),
    ):
        if (most := _number(done, fields, column, where)) is not None:
            limit = {**bound.fields(), "meter": meter, "rate": f"{most:f}/{unit}"}
            done.add(bound.name(column.removesuffix("_limit")), limit, where)
    if (most := _number(done, fields, "max_parallel_requests", where)) is not None:
        limit = {**bound.fields(), "meter": "concurrency", "hard": most}
        done.add(bound.name("slots"), limit, where)
    for model, of_model in _by_model(fields):
        if len(bound.scopes) > 1:
            done.left.append(f"{where}: a limit on the model {model}: a limit has two scopes at most")
        elif not bound.values:
            done.left.append(f"{where}: a limit on the model {model}: for each user or team there is none")
        else:
            _add_all(done, bound.with_model(model), of_model, where)
    for column, why in _STAYS.items():
        given = fields.get(column)
        if given and str(given).lower() not in ("f", "false", "{}", "[]") and not _is_for_all(given):
            done.left.append(f"{where}: {column}: {why}")


def _add_money(done: Translation, bound: _Bound, fields: Mapping[str, object], where: str) -> None:
    most, soft = (_number(done, fields, column, where) for column in ("max_budget", "soft_budget"))
    if most is None:
        if soft is not None:
            done.left.append(f"{where}: soft_budget without max_budget: a limit has a hard value")
        return
    duration = fields.get("budget_duration")
    window = _window(duration, fields.get("budget_reset_at"))
    if window is None:
        done.left.append(
            f"{where}: max_budget of {most:f} USD each {duration}: a window is hour, day, week, month, or of days from an"
            " anchor, for which budget_reset_at is taken"
        )
        return
    limit = {**bound.fields(), "meter": "cost_usd", **window, "hard": most}
    if soft is not None and soft <= most:
        limit["soft"] = soft
    name = done.add(bound.name("usd"), limit, where)
    if name is not None and (spent := _number(done, fields, "spend", where)):
        done.spent[name] = spent


def _window(duration: object, resets_at: object) -> dict[str, object] | None:
    """None for one that there is not here."""
    if duration in (None, ""):
        return {"window": "lifetime"}
    text = str(duration).strip().lower()
    if text in _WINDOWS:
        return {"window": _WINDOWS[text]}
    match = re.fullmatch(r"(\d+)(d|w)", text)
    try:
        anchor = date.fromisoformat(str(resets_at)[:10])
    except ValueError:
        return None
    return (
        {"window": f"{int(match[1]) * (7 if match[2] == 'w' else 1)}d", "anchor": anchor} if match else None
    )


def _by_model(fields: Mapping[str, object]) -> Iterable[tuple[str, Mapping[str, object]]]:
    """What a key, a team or a user has for single models."""
    found: dict[str, dict[str, object]] = {}
    for model, given in _mapping(_parsed(fields, "model_max_budget")).items():
        budget = _mapping(given)
        found[model] = {
            "max_budget": budget.get("budget_limit", budget.get("max_budget", None if budget else given)),
            "budget_duration": budget.get("time_period", budget.get("budget_duration")),
            "tpm_limit": budget.get("tpm_limit"),
            "rpm_limit": budget.get("rpm_limit"),
        }
    metadata = _mapping(_parsed(fields, "metadata"))
    for column in ("tpm_limit", "rpm_limit"):
        for model, most in _mapping(metadata.get(f"model_{column}")).items():
            found.setdefault(model, {})[column] = most
    return found.items()


def _parsed(fields: Mapping[str, object], column: str) -> object:
    return Row("", fields, frozenset()).json(column)


def _is_for_all(models: object) -> bool:
    names = models if isinstance(models, list) else str(models).strip("{}").split(",")
    return any(name in _IN_FORCE_FOR_ALL for name in names)


def _number(done: Translation, fields: Mapping[str, object], column: str, where: str) -> Decimal | None:
    """None for an infinite one, which is no limit, and for what is no number, which is told."""
    value = fields.get(column)
    try:
        number = None if value is None else Decimal(str(value))
    except InvalidOperation:
        done.left.append(f"{where}: {column} = {value!r}: no number")
        return None
    return number if number is not None and number.is_finite() else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
