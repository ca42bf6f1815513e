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

from platformdirs import user_data_path
from pydantic import (
    AfterValidator,
    BeforeValidator,
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
from govmiddleware.core.call import Principal, Role
from govmiddleware.core.limits import Mode
from govmiddleware.core.prices import ConfiguredPrice
from govmiddleware.core.providers import Provider
from govmiddleware.core.webhook_signature import SECRET_FORM, read_secret
from govmiddleware.errors import ConfigurationError
from govmiddleware.services.signing_keys import SHORTEST_SECRET
from govmiddleware.settings_errors import HIDDEN, configuration_errors, environment_error
from govmiddleware.settings_fields import (
    Frozen,
    Name,
    PlainName,
    Positive,
    PositiveInt,
    Rate,
    WorkspaceName,
    no_bool,
)
from govmiddleware.settings_limits import LimitDefaults, LimitSettings, check_provider

DEFAULT_FILE = Path("govmiddleware.toml")


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("64 hexadecimal digits, the SHA-256 of the secret")
    return text.lower()


def _prefix(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path):
        raise ValueError("a path such as /gov, without a slash at its end")
    return path


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


def _journal_url(url: SecretStr) -> SecretStr:
    scheme, _, rest = url.get_secret_value().partition("://")
    if scheme not in ("sqlite", "postgresql") or not rest.strip("/"):
        raise ValueError("sqlite:///PATH, or postgresql://USER:PASSWORD@HOST/DATABASE")
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


Secret = Annotated[SecretStr, Field(min_length=1)]
HeaderSecret = Annotated[Secret, AfterValidator(_header_value)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
UpstreamAuth = Literal["replace", "forward"]


class UpstreamSettings(Frozen):
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
    trust_cost_header: bool = False
    litellm_headers: bool = False

    @model_validator(mode="after")
    def _has_one_key(self) -> UpstreamSettings:
        if self.api_key is not None and self.api_key_env is not None:
            raise ValueError("api_key_env or api_key, not both")
        return self

    def provider(self) -> Provider:
        return Provider(self.name, self.models, self.url, self.trust_cost_header)

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


class ApiTokenSettings(Frozen):
    """A static API token, by the SHA-256 of its secret."""

    name: Name
    workspace: WorkspaceName
    sha256: Annotated[str, AfterValidator(_sha256)]
    role: Role = Role.OPERATOR
    user: Name | None = None
    agent: Name | None = None
    tags: dict[Name, Name] = Field(default_factory=dict)

    def principal(self) -> Principal:
        return Principal(
            workspace=self.workspace,
            api_token=self.name,
            role=self.role,
            user=self.user,
            agent=self.agent,
            tags=tuple(sorted(self.tags.items())),
        )


class PriceSettings(Frozen):
    """The price of one model, or of those that a glob matches, over the shipped data."""

    model: Annotated[str, Field(min_length=1)]
    input_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    output_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    cached_input_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    cache_write_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    cache_write_1h_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    request_usd: Annotated[Decimal, Field(ge=0)] | None = None
    image_usd: Annotated[Decimal, Field(ge=0)] | None = None
    audio_minute_usd: Annotated[Decimal, Field(ge=0)] | None = None
    max_output_tokens: PositiveInt | None = None
    same_as: str | None = None

    @model_validator(mode="after")
    def _has_a_price(self) -> PriceSettings:
        per_token = self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None
        by_unit = (self.request_usd, self.image_usd, self.audio_minute_usd)
        if not per_token and by_unit == (None, None, None) and self.same_as is None:
            expected = "request_usd, image_usd, audio_minute_usd or same_as"
            raise ValueError(f"input_usd_per_mtok and output_usd_per_mtok, {expected}")
        return self

    def configured(self) -> ConfiguredPrice:
        return ConfiguredPrice(**self.model_dump())


class Settings(BaseSettings):
    """All settings, with CONTRACT's names and defaults."""

    model_config = SettingsConfigDict(
        env_prefix="GOV_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        defer_build=True,  # `load` makes a class of its own out of it
    )

    upstream: BaseUrl | None = None
    upstream_auth: UpstreamAuth = "replace"
    upstream_api_key: HeaderSecret | None = None
    upstreams: tuple[UpstreamSettings, ...] = ()
    redis_url: Annotated[str, AfterValidator(_redis_url)] = "embedded"
    data_dir: Path = Field(default_factory=lambda: user_data_path("govmiddleware", appauthor=False))
    on_store_failure: Literal["closed"] = "closed"
    mode: Mode = Mode.ENFORCED
    attribution: Literal["trusted", "pinned"] = "trusted"
    unmetered_routes: Literal["refuse", "forward"] = "refuse"
    lease_seconds: Annotated[float, BeforeValidator(no_bool), Field(ge=1, allow_inf_nan=False)] = 60
    sweep_seconds: Positive = 15
    audit_seconds: Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=2_678_400)] = 3600
    max_body_bytes: PositiveInt = 33_554_432
    connect_timeout: Positive = 5
    first_byte_timeout: Positive = 600
    idle_timeout: Positive = 300
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(_networks)] = ()
    soft_fraction: Annotated[float, BeforeValidator(no_bool), Field(gt=0, le=1)] = 0.8
    default_max_output_tokens: PositiveInt = 4096
    clamp_min_output_tokens: PositiveInt = 64
    slice_output_tokens: Annotated[int, BeforeValidator(no_bool), Field(ge=0)] = 1024
    bound_coverage: Annotated[float, BeforeValidator(no_bool), Field(ge=0.5, le=0.9999)] = 0.99
    unknown_size_tokens: PositiveInt = 2000
    batches: Literal["refuse", "reserve"] = "refuse"
    body_timeout: Positive = 30
    journal_url: Annotated[SecretStr, AfterValidator(_journal_url)] | None = None
    journal_max_records: PositiveInt = 5_000_000
    audit_key: Annotated[SecretStr, Field(min_length=SHORTEST_SECRET)] | None = None
    public_url: BaseUrl = "http://127.0.0.1:8080"
    override_wait_seconds: Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=600)] = 0
    login_throttle: Rate = "10/minute"
    webhook_url: Annotated[SecretStr, AfterValidator(_webhook_url)] | None = None
    webhook_secret: Annotated[SecretStr, AfterValidator(_webhook_secret)] | None = None
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_sample: Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=1)] = 1
    log_slow_seconds: Positive = 60
    log_prompt_characters: Annotated[int, BeforeValidator(no_bool), Field(ge=0, le=100_000)] = 0
    telemetry: Literal["none", "otlp"] = "none"
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
    def _hosts_have_one_audit_key(self) -> Settings:
        # A file in data_dir is one host's own; a database server is there for several.
        if self.audit_key is None and self.journal_database.startswith("postgresql:"):
            expected = (
                f"at least {SHORTEST_SECRET} characters beside a journal_url of PostgreSQL, the same on every host:"
                " GOV_AUDIT_KEY from `openssl rand -base64 32`"
            )
            raise ConfigurationError("audit_key", None, expected)
        return self

    @model_validator(mode="after")
    def _limits_find_their_upstream(self) -> Settings:
        names = [upstream.name for upstream in self.all_upstreams]
        for index, limit in enumerate(self.limits):
            check_provider(limit, f"limits[{index}].value", names)
        return self

    @property
    def all_upstreams(self) -> tuple[UpstreamSettings, ...]:
        """Never empty: `upstream` alone, or none at all, is one named `default` that takes every model."""
        if self.upstreams:
            return self.upstreams
        return (UpstreamSettings(name="default", url=self.upstream, api_key=self.upstream_api_key),)

    @property
    def journal_database(self) -> str:
        """`journal_url`, or a file in `data_dir`."""
        if self.journal_url is None:
            return f"sqlite:///{self.data_dir.absolute() / 'journal.sqlite3'}"
        return self.journal_url.get_secret_value()

    @property
    def limit_defaults(self) -> LimitDefaults:
        """What limits take from here, those of the store too."""
        return LimitDefaults(self.soft_fraction, self.mode)

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
        raise configuration_errors(error) from None


def stray_variables() -> list[str]:
    """Variables of the environment that look like settings and are none: misspelt, or not built yet."""
    known = {f"GOV_{name.upper()}" for name in Settings.model_fields} | {"GOV_CONFIG", "GOV_TOKEN"}
    return sorted(name for name in os.environ if name.startswith("GOV_") and name.split("__")[0] not in known)


def _repeated(names: Sequence[object]) -> int | None:
    """The place of the first that stands before it already."""
    return next((index for index, name in enumerate(names) if name in names[:index]), None)
