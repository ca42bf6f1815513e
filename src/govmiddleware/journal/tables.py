"""The tables of the history, on SQLite and PostgreSQL alike.

| table    | one row for                                                                                   |
|----------|-----------------------------------------------------------------------------------------------|
| workspace| each workspace: the epoch of its counters, and up to which record it was drained               |
| record   | each record of the journal: whole as JSON, and in columns what reports select and add up       |
| tag      | each tag of a record                                                                          |
| counter  | each counter that a record speaks of                                                          |
| hold     | what a record did to one bucket of a counter                                                  |
| audit_entry | each entry of the audit log, chained                                                       |
| schema   | one: which version of these tables it is                                                      |
| override | each override that was ever asked for                                                        |
| approval | each yes to an override                                                                     |
| registry | each limit and API token that the store has by command or API; and one that says that what   |
|          | was there before this table is copied                                                         |

Amounts and money are integers, money in nano-USD; times are Unix milliseconds.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 1
"""To be raised with every change of the tables, beside a migration from the version before."""

metadata = MetaData()


class Name(TypeDecorator[str]):
    """Text from outside. PostgreSQL's has no NUL: one is kept as a backslash and 0, and a backslash as two."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and kept(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if not value or "\\" not in value:
            return value
        return "\\".join(part.replace("\\0", "\0") for part in value.split("\\\\"))


def kept(name: str) -> str:
    """As a column of type Name has it, for statements that SQLAlchemy does not see."""
    return name.replace("\\", "\\\\").replace("\0", "\\0")


_Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the column is an INTEGER."""

workspaces = Table(
    "gov_workspace",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", Text),
    Column("drained_ms", BigInteger, nullable=False, default=0),
    Column("drained_sequence", BigInteger, nullable=False, default=0),
)

records = Table(
    "gov_record",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("workspace", Text, nullable=False),
    # A record's id in the stream is made of these two, and only they sort as it does.
    Column("stream_ms", BigInteger, nullable=False),
    Column("stream_sequence", BigInteger, nullable=False),
    Column("identity", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    # When its call was admitted, which is the time that reports and counters go by.
    Column("time_ms", BigInteger, nullable=False),
    Column("is_inner", Boolean, nullable=False),
    Column("kind", Name, nullable=False),
    Column("api_token", Name),
    Column("user", Name),
    Column("session", Name),
    Column("agent", Name),
    Column("provider", Name),
    Column("model_requested", Name),
    Column("model_served", Name),
    Column("price_version", Name),
    Column("outcome", Name),
    Column("would_refuse", Name),
    Column("requests", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("debt", BigInteger, nullable=False),
    Column("record", Text, nullable=False),
    UniqueConstraint("workspace", "identity"),
    Index("gov_record_adjustment", "workspace", "outcome"),
    Index("gov_record_stream", "workspace", "stream_ms", "stream_sequence"),
    # All that reports select and add up: they are read from it alone, without the records.
    Index(
        "gov_record_usage",
        "workspace",
        "time_ms",
        "api_token",
        "user",
        "session",
        "agent",
        "provider",
        "model_requested",
        "price_version",
        "requests",
        "refused",
        "input_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost",
        "debt",
    ),
)

tags = Table(
    "gov_tag",
    metadata,
    Column("record", ForeignKey(records.c.id), primary_key=True),
    Column("name", Name, primary_key=True),
    Column("value", Name, nullable=False),
)

counters = Table(
    "gov_counter",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("name", Name, nullable=False),
    Column("window", Text, nullable=False),
    UniqueConstraint("workspace", "name"),
)

holds = Table(
    "gov_hold",
    metadata,
    Column("record", ForeignKey(records.c.id), primary_key=True),
    Column("counter", ForeignKey(counters.c.id), primary_key=True),
    Column("bucket", BigInteger, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Index("gov_hold_counter", "counter", "bucket", "amount"),
)

schema = Table("gov_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

audit_entries = Table(
    "gov_audit_entry",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("workspace", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("mac", Text, nullable=False),
)

overrides = Table(
    "gov_override",
    metadata,
    Column("id", Name, primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("limit", Name, nullable=False),
    Column("scope", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("requester_workspace", Text, nullable=False),  # `*` is the admin's: null would equal nothing
    Column("requester_user", Text),
    Column("for_user", Text),
    Column("requested_at_ms", BigInteger, nullable=False),
    Column("seconds", BigInteger, nullable=False),
    Column("decide_by_ms", BigInteger, nullable=False),
    Column("approvals_required", Integer, nullable=False),
    Column("amount", BigInteger),
    Column("factor", Text),
    Column("state", Text, nullable=False),
    Column("until_ms", BigInteger),
    Index("gov_override_at", "requested_at_ms"),
    Index("gov_override_state", "state"),
)

# As text, for an Index of a dialect's own has PostgreSQL's loaded, which takes 3 MB where the journal is in SQLite.
_AT_MOST_ONE_UNDECIDED = """
    CREATE UNIQUE INDEX gov_override_undecided
    ON gov_override (workspace, "limit", value, requester_workspace, requester)
    WHERE state = 'requested'
"""
event.listen(overrides, "after_create", DDL(_AT_MOST_ONE_UNDECIDED))  # type: ignore[no-untyped-call]

approvals = Table(
    "gov_approval",
    metadata,
    Column("override", ForeignKey(overrides.c.id), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("user", Text),
    Column("at_ms", BigInteger, nullable=False),
)

registry = Table(
    "gov_registry",
    metadata,
    Column("registry", Text, primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Text, nullable=False),
)
