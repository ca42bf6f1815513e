"""`limit import`: LiteLLM's budgets and rate limits as a configuration to be read by a person first."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from govmiddleware.cli.common import AsJson, print_json
from govmiddleware.cli.litellm_limits import Translation, translate_config, translate_rows
from govmiddleware.cli.rows import Row, read_rows
from govmiddleware.errors import ConfigurationError


def import_(
    *files: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True,
            help="LiteLLM's config.yaml, and exports of its tables: CSV, JSON; - for standard input.",
        ),
    ],
    json: AsJson = False,
) -> int:
    """Print LiteLLM's budgets and rate limits as [[limits]], to be put into the configuration.

    Tables: LiteLLM_VerificationToken, TeamTable, UserTable, EndUserTable, OrganizationTable, TagTable, TeamMembership and
    BudgetTable, told apart by their columns. Nothing is stored. What has no limit here is told on standard error.
    """
    if not files:
        raise ConfigurationError("FILE", None, "LiteLLM's config.yaml, or an export of its tables")
    done = Translation()
    rows: list[Row] = []
    for file in files:
        if file.endswith((".yaml", ".yml")):
            translate_config(done, _yaml(file), file)
        else:
            rows += read_rows(file)
    translate_rows(done, rows)
    if json:
        spent = {name: str(usd) for name, usd in done.spent.items()}
        limits = [{key: _json(value) for key, value in limit.items()} for limit in done.limits]
        print_json({"limits": limits, "spent_usd": spent, "not_mapped": done.left})
        return 0
    for limit in done.limits:
        print(_toml(limit, done))
    for line in done.left:
        print(f"not mapped: {line}", file=sys.stderr)
    print(f"{len(done.limits)} limits; {len(done.left)} things are not mapped.", file=sys.stderr)
    return 0


def _toml(limit: Mapping[str, object], done: Translation) -> str:
    lines = ["[[limits]]"]
    if (spent := done.spent.get(str(limit["name"]))) is not None:
        lines.append(f"# LiteLLM: {spent:f} USD of it are spent. Here it begins at 0.")
    lines += [f"{key} = {_value(value)}" for key, value in limit.items()]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json_text.dumps(value, ensure_ascii=False)
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case date():
            return value.isoformat()
        case _:
            return f"{value:f}"


def _json(value: object) -> object:
    return value if isinstance(value, str | bool | list) else _value(value)


def _yaml(file: str) -> Mapping[str, object]:
    import yaml

    try:
        found = yaml.safe_load(Path(file).read_bytes())
    except OSError as error:
        raise ConfigurationError("FILE", file, f"a file that can be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise ConfigurationError("FILE", file, f"YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise ConfigurationError("FILE", file, "LiteLLM's configuration, a mapping")
    return found
