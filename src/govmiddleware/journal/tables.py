"""The tables of the history, on SQLite and PostgreSQL alike.

| table    | one row for                                                                                   |
|----------|-----------------------------------------------------------------------------------------------|
| workspace| each workspace: the epoch of its counters, and up to which record it was drained               |
| record   | each record of the journal: whole as JSON, and in columns what reports select and add up       |
| tag      | each tag of a record                                                                          |
| counter  | each counter that a record speaks of                                                          |
| hold     | what a record did to one bucket of a counter                                                  |
| audit_entry | each entry of the audit log, chained                                                       |

Amounts and money are integers, money in nano-USD; times are Unix milliseconds.
"""

from __future__ import annotations

from sqlalchemy import (
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
)

metadata = MetaData()

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
    Column("kind", Text, nullable=False),
    Column("api_token", Text),
    Column("user", Text),
    Column("session", Text),
    Column("agent", Text),
    Column("provider", Text),
    Column("model_requested", Text),
    Column("model_served", Text),
    Column("price_version", Text),
    Column("outcome", Text),
    Column("would_refuse", Text),
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
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

counters = Table(
    "gov_counter",
    metadata,
    Column("id", _Key, primary_key=True),
    Column("workspace", Text, nullable=False),
    Column("name", Text, nullable=False),
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
