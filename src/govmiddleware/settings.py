"""The settings tree: frozen, checked, and the only reader of the environment and the configuration file.

Flags win over the environment (`GOV_…`, nested with `__`), the environment over the file. Every error
is a ConfigurationError that names the key, the value and what would be right.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

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
from govmiddleware.core.limits import Limit, Meter
from govmiddleware.core.money import LARGEST_LIMIT, nano_usd
from govmiddleware.core.prices import ConfiguredPrice
from govmiddleware.core.providers import Provider
from govmiddleware.core.scopes import Scope
from govmiddleware.core.webhook_signature import SECRET_FORM, read_secret
from govmiddleware.core.windows import CalendarUnit, CalendarWindow, Lifetime, Now, SlidingWindow, Window
from govmiddleware.errors import ConfigurationError
from govmiddleware.settings_errors import HIDDEN, configuration_error, environment_error

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


def _plain_name(text: str) -> str:
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


def _base_url(url: str) -> str:
    expected = "an http or https URL with a host, perhaps a path prefix, and nothing else"
    try:
        parts = urlsplit(url)
        has_origin = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise ValueError(expected) from None
    if not has_origin or not url.isascii() or "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError(expected)
    return url


def _webhook_url(url: SecretStr) -> SecretStr:
    expected = "an http or https URL with a host"
    try:
        parts = urlsplit(text := url.get_secret_value())
        is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise ValueError(expected) from None
    if not is_whole or not text.isascii() or not text.isprintable() or " " in text or "@" in parts.netloc:
        raise ValueError(expected)
    return url


def _webhook_secret(secret: SecretStr) -> SecretStr:
    read_secret(secret.get_secret_value())
    return secret


def _globs(globs: tuple[str, ...]) -> tuple[str, ...]:
    if not all(globs) or not globs:
        raise ValueError("names or globs, such as gpt-*; leave it out to take every model")
    return globs


def _variable(name: str) -> str:
    # Names in small letters are rare (POSIX 8.1 leaves them out), keys that were put here by mistake are not.
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError("the name of an environment variable, in capital letters, digits and underscores")
    return name


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
HeaderSecret = Annotated[Secret, AfterValidator(_header_value)]
PlainName = Annotated[str, AfterValidator(_plain_name)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
UpstreamAuth = Literal["replace", "forward"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UpstreamSettings(_Frozen):
    """One upstream, and the models that it takes. What is None is as in the whole deployment.

    In a host app, which calls its providers itself, `name` and `models` alone count.
    """

    name: PlainName
    url: BaseUrl | None = None
    models: Annotated[tuple[str, ...], AfterValidator(_globs)] | None = None
    auth: UpstreamAuth | None = None
    api_key: HeaderSecret | None = None
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    connect_timeout: Positive | None = None
    first_byte_timeout: Positive | None = None
    idle_timeout: Positive | None = None
    max_connections: PositiveInt | None = None

    @model_validator(mode="after")
    def _has_one_key(self) -> UpstreamSettings:
        if self.api_key is not None and self.api_key_env is not None:
            raise ValueError("api_key_env or api_key, not both")
        return self

    def provider(self) -> Provider:
        return Provider(self.name, self.models)

    def credential(self, key: str) -> str | None:
        """What the upstream wants to see, out of the environment where `api_key_env` says so.

        It is looked up when it is needed, since most commands run where no such key is. Raises
        ConfigurationError for a variable that cannot be used, `key` being where this upstream stands.
        """
        if self.api_key_env is None:
            return self.api_key.get_secret_value() if self.api_key else None
        key, secret = f"{key}.api_key_env", os.environ.get(self.api_key_env)
        if not secret:
            expected = "an environment variable that is set and not empty"
            raise ConfigurationError(key, self.api_key_env, expected)
        try:
            return _header_value(SecretStr(secret)).get_secret_value()
        except ValueError as error:
            expected = f"an environment variable that holds {error}"
            raise ConfigurationError(key, self.api_key_env, expected) from None


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

    name: PlainName
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

    upstream: BaseUrl | None = None
    upstream_auth: UpstreamAuth = "replace"
    upstream_api_key: HeaderSecret | None = None
    upstreams: tuple[UpstreamSettings, ...] = ()
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
    clamp_min_output_tokens: PositiveInt = 64
    slice_output_tokens: Annotated[int, BeforeValidator(_no_bool), Field(ge=0)] = 1024
    unknown_size_tokens: PositiveInt = 2000
    body_timeout: Positive = 30
    journal_max_records: PositiveInt = 5_000_000
    login_throttle: Annotated[str, AfterValidator(_rate)] = "10/minute"
    webhook_url: Annotated[SecretStr, AfterValidator(_webhook_url)] | None = None
    webhook_secret: Annotated[SecretStr, AfterValidator(_webhook_secret)] | None = None
    metrics_token: Secret | None = None
    control_prefix: Annotated[str, AfterValidator(_prefix)] = "/gov"
    admin_token: Secret | None = None
    api_tokens: tuple[ApiTokenSettings, ...] = ()
    limits: tuple[LimitSettings, ...] = ()
    prices: tuple[PriceSettings, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        upstreams = [upstream.name for upstream in self.upstreams]
        limits = [limit.name for limit in self.limits]
        tokens = [(token.workspace, token.name) for token in self.api_tokens]
        hashes = [token.sha256 for token in self.api_tokens]
        if (index := _repeated(upstreams)) is not None:
            expected = "a name that no other upstream has"
            raise ConfigurationError(f"upstreams[{index}].name", upstreams[index], expected)
        if (index := _repeated(limits)) is not None:
            raise ConfigurationError(f"limits[{index}].name", limits[index], "a name that no other limit has")
        if (index := _repeated(tokens)) is not None:
            expected = "a name that no other API token of its workspace has"
            raise ConfigurationError(f"api_tokens[{index}].name", tokens[index][1], expected)
        if (index := _repeated(hashes)) is not None:
            expected = "the hash of a secret that no other API token has"
            raise ConfigurationError(f"api_tokens[{index}].sha256", HIDDEN, expected)
        return self

    @model_validator(mode="after")
    def _upstreams_fit_together(self) -> Settings:
        if self.upstreams and self.upstream is not None:
            expected = "nothing beside [[upstreams]], be it --upstream, GOV_UPSTREAM or in the file"
            raise ConfigurationError("upstream", self.upstream, expected)
        if self.upstreams and self.upstream_api_key is not None:
            expected = "nothing beside [[upstreams]]: each has an api_key_env of its own"
            raise ConfigurationError("upstream_api_key", HIDDEN, expected)
        for index, upstream in enumerate(self.upstreams):
            has_key = upstream.api_key is not None or upstream.api_key_env is not None
            if has_key and (upstream.auth or self.upstream_auth) == "forward":
                expected = "replace (also by upstream_auth), where an upstream has a key"
                raise ConfigurationError(f"upstreams[{index}].auth", "forward", expected)
        return self

    @model_validator(mode="after")
    def _webhook_can_be_signed(self) -> Settings:
        if self.webhook_url is not None and self.webhook_secret is None:
            raise ConfigurationError("webhook_secret", None, f"a secret beside webhook_url: {SECRET_FORM}")
        if self.webhook_secret is not None and self.webhook_url is None:
            raise ConfigurationError("webhook_url", None, "a URL beside webhook_secret")
        return self

    @model_validator(mode="after")
    def _limits_find_their_upstream(self) -> Settings:
        names = [upstream.name for upstream in self.all_upstreams]
        for index, limit in enumerate(self.limits):
            if limit.scope is Scope.PROVIDER and limit.value not in (None, *names):
                expected = f"the name of an upstream: {', '.join(names)}"
                raise ConfigurationError(f"limits[{index}].value", limit.value, expected)
        return self

    @property
    def all_upstreams(self) -> tuple[UpstreamSettings, ...]:
        """Never empty: `upstream` alone, or none at all, is one named `default` that takes every model."""
        if self.upstreams:
            return self.upstreams
        return (UpstreamSettings(name="default", url=self.upstream, api_key=self.upstream_api_key),)

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
        raise environment_error(error) from None
    except ValidationError as error:
        first, *others = [configuration_error(details) for details in error.errors()]
        for other in others:
            first.add_note(str(other))
        raise first from None


def stray_variables() -> list[str]:
    """Variables of the environment that look like settings and are none: misspelt, or not built yet."""
    known = {f"GOV_{name.upper()}" for name in Settings.model_fields} | {"GOV_CONFIG", "GOV_TOKEN"}
    return sorted(name for name in os.environ if name.startswith("GOV_") and name.split("__")[0] not in known)


def _repeated(names: Sequence[object]) -> int | None:
    """The place of the first that stands before it already."""
    return next((index for index, name in enumerate(names) if name in names[:index]), None)
