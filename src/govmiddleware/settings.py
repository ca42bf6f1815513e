"""The settings tree: frozen, checked, and the only reader of the environment and the configuration file.

Flags win over the environment (`GOV_…`, nested with `__`), the environment over the file. Every error
is a ConfigurationError that names the key, the value and what would be right.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from limits import RateLimitItem, parse
from platformdirs import user_data_path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from govmiddleware.core.addresses import TrustedProxies
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


def _rate(text: str) -> str:
    _parsed_rate(text)
    return text


def _parsed_rate(text: str) -> RateLimitItem:
    expected = "a whole number above 0 per second, minute, hour or day, such as 60/minute or 100/5 minutes"
    try:
        item = parse(text)
    except ValueError:
        raise ValueError(expected) from None
    if item.amount < 1 or item.get_expiry() > 31 * 86400:
        raise ValueError(expected)
    return item


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    TrustedProxies(networks)
    return networks


def _redis_url(url: str) -> str:
    if url != "embedded" and not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("embedded, or a URL of redis://, rediss:// or unix://")
    return url


WorkspaceName = Annotated[str, AfterValidator(check_workspace)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiTokenSettings(_Frozen):
    """A static API token, by the SHA-256 of its secret."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    workspace: WorkspaceName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    role: Role = Role.OPERATOR
    user: str | None = None
    agent: str | None = None
    tags: dict[str, str] = {}

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

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
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
        if self.same_as is None and (self.input_usd_per_mtok is None or self.output_usd_per_mtok is None):
            raise ValueError("input_usd_per_mtok and output_usd_per_mtok, or same_as")
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
    upstream_api_key: SecretStr | None = None
    redis_url: Annotated[str, AfterValidator(_redis_url)] = "embedded"
    data_dir: Path = Field(default_factory=lambda: user_data_path("govmiddleware", appauthor=False))
    on_store_failure: Literal["closed"] = "closed"
    attribution: Literal["trusted", "pinned"] = "trusted"
    unmetered_routes: Literal["refuse", "forward"] = "refuse"
    lease_seconds: Annotated[float, Field(ge=1)] = 60
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
    metrics_token: SecretStr | None = None
    control_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+$")] = "/gov"
    admin_token: SecretStr | None = None
    api_tokens: tuple[ApiTokenSettings, ...] = ()
    limits: tuple[LimitSettings, ...] = ()
    prices: tuple[PriceSettings, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        for key, names in (
            ("limits", [limit.name for limit in self.limits]),
            ("api_tokens", [f"{token.workspace}/{token.name}" for token in self.api_tokens]),
            ("api_tokens", [token.sha256.lower() for token in self.api_tokens]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key} with names that differ; {twice[0]!r} stands twice")
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
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(str(named or DEFAULT_FILE), str(error), "valid TOML") from None
    except SettingsError as error:
        raise ConfigurationError("environment", str(error), "JSON, for settings that are lists") from None
    except ValidationError as error:
        first, *others = [_configuration_error(details) for details in error.errors()]
        for other in others:
            first.add_note(str(other))
        raise first from None


def _configuration_error(details: ErrorDetails) -> ConfigurationError:
    key = ""
    for part in details["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    value: object = details["input"]
    if details["type"] == "extra_forbidden":
        return ConfigurationError(
            key, _shown(key, value), "a setting that exists; there is none of this name"
        )
    if details["type"] == "missing":
        return ConfigurationError(key, None, "a value; it is required")
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return ConfigurationError(key or "settings", _shown(key, value), message)


def _shown(key: str, value: object) -> object:
    if isinstance(value, SecretStr) or any(word in key for word in ("token", "key", "sha256")):
        return value if isinstance(value, Mapping) else "…"
    return {name: value[name] for name in value if name != "sha256"} if isinstance(value, Mapping) else value
