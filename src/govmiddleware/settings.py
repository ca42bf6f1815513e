"""The settings tree: frozen, checked, and the only reader of the environment and the configuration file.

Flags win over the environment (`GOV_…`, nested with `__`), the environment over the file. Every error
is a ConfigurationError that names the key, the value and what would be right.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from limits import RateLimitItem, parse_many
from platformdirs import user_data_path
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from govmiddleware.core.addresses import TrustedProxies
from govmiddleware.core.attribution import LONGEST_NAME
from govmiddleware.core.call import Principal, Role
from govmiddleware.core.limits import Limit, Meter, Scope
from govmiddleware.core.money import LARGEST_LIMIT, nano_usd
from govmiddleware.core.prices import ConfiguredPrice
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Lifetime, Now, SlidingWindow, Window
from govmiddleware.errors import ConfigurationError

DEFAULT_FILE = Path("govmiddleware.toml")


def check_workspace(name: str) -> str:
    """A workspace's name, which stands in the store's keys. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise ValueError("a workspace name: 1 to 64 letters, digits, dots, dashes or underscores")
    return name


def check_name(text: str) -> str:
    """A name that counts may be kept under. Raises ValueError."""
    if not (0 < len(text) <= LONGEST_NAME and text.isprintable()):
        raise ValueError(f"1 to {LONGEST_NAME} printable characters")
    return text


def _limit_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("1 to 64 letters, digits, dots, dashes or underscores")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("64 hexadecimal digits, the SHA-256 of the secret")
    return text.lower()


def _prefix(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path):
        raise ValueError("a path such as /gov, without a slash at its end")
    return path


def _no_bool(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise ValueError("a number")
    return value


def _rate(text: str) -> str:
    _parsed_rate(text)
    return text


def _parsed_rate(text: str) -> RateLimitItem:
    expected = "a whole number above 0 per second, minute, hour or day, such as 60/minute or 100/5 minutes"
    try:
        items = parse_many(text)
    except ValueError:
        raise ValueError(expected) from None
    # The notation also has lists of rates; a limit is one.
    if len(items) > 1 or items[0].amount < 1 or not 1 <= items[0].get_expiry() <= 31 * 86400:
        raise ValueError(expected)
    return items[0]


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    try:
        TrustedProxies(networks)
    except ValueError as error:
        raise ValueError(f"addresses and networks, such as 10.0.0.0/8 ({error})") from None
    return networks


_STORE_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)


def _redis_url(url: str) -> str:
    if url != "embedded" and url.partition("://")[0] not in _STORE_SCHEMES:
        raise ValueError(f"embedded, or a URL of {', '.join(f'{scheme}://' for scheme in _STORE_SCHEMES)}")
    return url


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    return re.sub(r"(password=)[^&]*", r"\1…", re.sub(r"//.*@", "//…@", url))


def _header_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("printable ASCII without space or line break around it, as it is sent in a header")
    return secret


WorkspaceName = Annotated[str, AfterValidator(check_workspace)]
Name = Annotated[str, AfterValidator(check_name)]
Positive = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, BeforeValidator(_no_bool), Field(gt=0)]

Secret = Annotated[SecretStr, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiTokenSettings(_Frozen):
    """A static API token, by the SHA-256 of its secret."""

    name: Name
    workspace: WorkspaceName
    sha256: Annotated[str, AfterValidator(_sha256)]
    role: Role = Role.OPERATOR
    user: Name | None = None
    agent: Name | None = None
    tags: dict[Name, Name] = {}

    def principal(self) -> Principal:
        return Principal(
            workspace=self.workspace,
            api_token=self.name,
            role=self.role,
            user=self.user,
            agent=self.agent,
            tags=tuple(sorted(self.tags.items())),
        )


class LimitSettings(_Frozen):
    """A limit: `rate`, or `window` and `hard`; `hard` alone for concurrency."""

    name: Annotated[str, AfterValidator(_limit_name)]
    scope: Scope
    meter: Meter
    rate: Annotated[str, AfterValidator(_rate)] | None = None
    window: Literal["hour", "day", "week", "month", "lifetime"] | None = None
    hard: Annotated[Decimal, Field(ge=0)] | None = None
    value: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> LimitSettings:
        if self.meter is Meter.CONCURRENCY:
            if self.rate or self.window or self.hard is None:
                raise ValueError("concurrency takes hard alone: it has no window")
        elif (self.rate is None) == (self.window is None):
            raise ValueError("either rate, or window together with hard")
        elif (self.window is None) != (self.hard is None):
            raise ValueError("window and hard go together; a rate has its value in it")
        if self.hard is not None and self.meter is not Meter.COST_USD and self.hard % 1:
            raise ValueError("a whole number as hard, for everything but cost_usd")
        if self._hard_value() > LARGEST_LIMIT:
            raise ValueError(f"at most {LARGEST_LIMIT} (money: about 4.5 million USD)")
        return self

    def limit(self) -> Limit:
        return Limit(self.name, self.scope, self.meter, self._window(), self._hard_value(), self.value)

    def _window(self) -> Window:
        if self.rate is not None:
            return SlidingWindow(_parsed_rate(self.rate).get_expiry())
        match self.window:
            case None:
                return Now()
            case "lifetime":
                return Lifetime()
            case unit:
                return CalendarWindow(CalendarUnit(unit))

    def _hard_value(self) -> int:
        value = self.hard if self.hard is not None else Decimal(_parsed_rate(self.rate or "").amount)
        return nano_usd(value) if self.meter is Meter.COST_USD else int(value)


class PriceSettings(_Frozen):
    """The price of one model, or of those that a glob matches, over the shipped data."""

    model: Annotated[str, Field(min_length=1)]
    input_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    output_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    cached_input_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    cache_write_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    request_usd: Annotated[Decimal, Field(ge=0)] | None = None
    max_output_tokens: PositiveInt | None = None
    same_as: str | None = None

    @model_validator(mode="after")
    def _has_a_price(self) -> PriceSettings:
        per_token = self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None
        if not per_token and self.request_usd is None and self.same_as is None:
            raise ValueError("input_usd_per_mtok and output_usd_per_mtok, request_usd or same_as")
        return self

    def configured(self) -> ConfiguredPrice:
        return ConfiguredPrice(**self.model_dump())


class Settings(BaseSettings):
    """All settings, with CONTRACT's names and defaults."""

    model_config = SettingsConfigDict(
        env_prefix="GOV_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    upstream: str | None = None
    upstream_auth: Literal["replace", "forward"] = "replace"
    upstream_api_key: Annotated[Secret, AfterValidator(_header_value)] | None = None
    redis_url: Annotated[str, AfterValidator(_redis_url)] = "embedded"
    data_dir: Path = Field(default_factory=lambda: user_data_path("govmiddleware", appauthor=False))
    on_store_failure: Literal["closed"] = "closed"
    attribution: Literal["trusted", "pinned"] = "trusted"
    unmetered_routes: Literal["refuse", "forward"] = "refuse"
    lease_seconds: Annotated[float, BeforeValidator(_no_bool), Field(ge=1, allow_inf_nan=False)] = 60
    sweep_seconds: Positive = 15
    max_body_bytes: PositiveInt = 33_554_432
    connect_timeout: Positive = 5
    first_byte_timeout: Positive = 600
    idle_timeout: Positive = 300
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(_networks)] = ()
    default_max_output_tokens: PositiveInt = 4096
    unknown_size_tokens: PositiveInt = 2000
    body_timeout: Positive = 30
    journal_max_records: PositiveInt = 5_000_000
    login_throttle: Annotated[str, AfterValidator(_rate)] = "10/minute"
    metrics_token: Secret | None = None
    control_prefix: Annotated[str, AfterValidator(_prefix)] = "/gov"
    admin_token: Secret | None = None
    api_tokens: tuple[ApiTokenSettings, ...] = ()
    limits: tuple[LimitSettings, ...] = ()
    prices: tuple[PriceSettings, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        limits = [limit.name for limit in self.limits]
        tokens = [(token.workspace, token.name) for token in self.api_tokens]
        hashes = [token.sha256 for token in self.api_tokens]
        if (index := _repeated(limits)) is not None:
            raise ConfigurationError(f"limits[{index}].name", limits[index], "a name that no other limit has")
        if (index := _repeated(tokens)) is not None:
            expected = "a name that no other API token of its workspace has"
            raise ConfigurationError(f"api_tokens[{index}].name", tokens[index][1], expected)
        if (index := _repeated(hashes)) is not None:
            expected = "the hash of a secret that no other API token has"
            raise ConfigurationError(f"api_tokens[{index}].sha256", _HIDDEN, expected)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(file: Path | None = None, **flags: object) -> Settings:
    """The settings in force.

    Args:
        file: the configuration file; None takes `GOV_CONFIG`, else `./govmiddleware.toml` where there is
            one, else defaults.
        flags: settings that win over everything else; those that are None are left out.

    Raises ConfigurationError for the first error; its notes name the others.
    """
    named = file or (Path(os.environ["GOV_CONFIG"]) if os.environ.get("GOV_CONFIG") else None)
    if named is not None and not named.is_file():
        raise ConfigurationError("--config" if file else "GOV_CONFIG", str(named), "a file that exists")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=named or DEFAULT_FILE)

    try:
        return FromFile(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(named or DEFAULT_FILE), str(error), "valid TOML") from None
    except OSError as error:
        raise ConfigurationError(
            str(named or DEFAULT_FILE), error.strerror, "a file that can be read"
        ) from None
    except SettingsError as error:
        raise _environment_error(error) from None
    except ValidationError as error:
        first, *others = [_configuration_error(details) for details in error.errors()]
        for other in others:
            first.add_note(str(other))
        raise first from None


def stray_variables() -> list[str]:
    """Variables of the environment that look like settings and are none: misspelt, or not built yet."""
    known = {f"GOV_{name.upper()}" for name in Settings.model_fields} | {"GOV_CONFIG", "GOV_TOKEN"}
    return sorted(name for name in os.environ if name.startswith("GOV_") and name.split("__")[0] not in known)


_HIDDEN = "…"
_SECRETS = frozenset({"upstream_api_key", "metrics_token", "admin_token", "sha256"})
_EXPECTED = {
    "tuple_type": "a list",
    "model_type": "a table",
    "dict_type": "a table",
    "decimal_type": "a number",
    "greater_than": "a number {}",
    "greater_than_equal": "a number {}",
}
"""What would be right, where pydantic's own words are no help. `{}`: those words."""


def _configuration_error(details: ErrorDetails) -> ConfigurationError:
    key = ""
    for part in details["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    unknown = details["type"] == "extra_forbidden"
    value = _shown(key, details["input"], unknown=unknown)
    if unknown:
        return ConfigurationError(key, value, "a setting that exists; there is none of this name")
    if details["type"] == "missing":
        return ConfigurationError(key, None, "a value; it is required")
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return ConfigurationError(key, value, _EXPECTED.get(details["type"], "{}").replace("{}", message))


def _environment_error(error: SettingsError) -> ConfigurationError:
    """A variable that should hold JSON and does not."""
    found = re.search('field "(.+?)"', str(error))
    name = f"GOV_{found[1].upper()}" if found else "environment"
    value = next((value for key, value in os.environ.items() if key.upper() == name), None)
    shown = value if found is None else _shown(found[1], value, unknown=False)
    return ConfigurationError(name, shown, "JSON, as this setting is a list")


def _shown(key: str, value: object, *, unknown: bool) -> object:
    """A value as an error may show it: nothing that is a secret, or may be one under a wrong name."""
    name = key.rpartition(".")[2]
    if name in _SECRETS or re.fullmatch(r"api_tokens(\[\d+\])?", key):
        return _HIDDEN
    if unknown and (
        key.startswith("api_tokens")
        or isinstance(value, Mapping | list)
        or any(word in name for word in ("token", "key", "secret", "password"))
    ):
        return value if isinstance(value, int | float) else _HIDDEN
    return without_password(value) if isinstance(value, str) else value


def _repeated(names: Sequence[object]) -> int | None:
    """The place of the first that stands before it already."""
    return next((index for index, name in enumerate(names) if name in names[:index]), None)
