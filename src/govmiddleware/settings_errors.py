"""What a mistake in the settings is told: the key, the value and what would be right, and never a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from govmiddleware.errors import ConfigurationError

HIDDEN = "…"
_SECRETS = frozenset(
    {
        "upstream_api_key",
        "api_key",
        "api_key_env",  # what is no name of a variable may be the key itself
        "metrics_token",
        "admin_token",
        "audit_key",
        "sha256",
        "webhook_url",  # Slack's URLs are credentials
        "webhook_secret",
    }
)
_HOLD_SECRETS = r"(api_tokens|upstreams)(\[\d+\])?"
_EXPECTED = {
    "tuple_type": "a list",
    "model_type": "a table",
    "dict_type": "a table",
    "decimal_type": "a number",
    "greater_than": "a number {}",
    "greater_than_equal": "a number {}",
    "less_than_equal": "a number {}",
}
"""What would be right, where pydantic's own words are no help. `{}`: those words."""


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    return re.sub(r"(password=)[^&]*", r"\1…", re.sub(r"//.*@", "//…@", url))


def configuration_errors(error: ValidationError, *, whole: str = "") -> ConfigurationError:
    """The first of the values that pydantic refused, with the others as its notes. `whole`: what an error of all
    of it together has as its key."""
    first, *others = [_configuration_error(details, whole) for details in error.errors()]
    for other in others:
        first.add_note(str(other))
    return first


def _configuration_error(details: ErrorDetails, whole: str) -> ConfigurationError:
    key = "" if details["loc"] else whole
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


def environment_error(error: SettingsError) -> ConfigurationError:
    """A variable that should hold JSON and does not."""
    found = re.search('field "(.+?)"', str(error))
    name = f"GOV_{found[1].upper()}" if found else "environment"
    value = next((value for key, value in os.environ.items() if key.upper() == name), None)
    shown = value if found is None else _shown(found[1], value, unknown=False)
    return ConfigurationError(name, shown, "JSON, as this setting is a list")


def _shown(key: str, value: object, *, unknown: bool) -> object:
    """A value as an error may show it: nothing that is a secret, or may be one under a wrong name."""
    name = key.rpartition(".")[2]
    if name in _SECRETS or re.fullmatch(_HOLD_SECRETS, key):
        return HIDDEN
    if unknown and (
        key.startswith(("api_tokens", "upstreams"))
        or isinstance(value, Mapping | list)
        or any(word in name for word in ("token", "key", "secret", "password"))
    ):
        return value if isinstance(value, int | float) else HIDDEN
    return without_password(value) if isinstance(value, str) else value
