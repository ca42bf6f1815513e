"""Every key name in the store, and how long each lives.

All keys of a workspace share the hash tag `{workspace}`, so that they lie in one cluster slot and one
script can change them together.

| key                        | type   | holds                                     | lives                              |
|----------------------------|--------|-------------------------------------------|------------------------------------|
| gov:workspaces             | set    | names of all workspaces                   | for ever: the directory            |
| gov:sweeper                | string | who walks all workspaces: HOST:PID        | by TTL, shorter than sweep_seconds |
| gov:auditor                | string | who audits all workspaces: HOST:PID       | by TTL: audit_seconds              |
| gov:drainer                | hash   | `by`: who drains, HOST:PID:NUMBER; and    | by TTL, five seconds after it ends |
|                            |        | `report`, how far behind it is, JSON      |                                    |
| gov:backfiller             | string | who backfills limits: HOST:PID            | by TTL: two minutes                |
| gov:backfill               | hash   | kind of counter -> how far its backfill is| while a limit of it is in force    |
| gov:limits                 | hash   | a limit's name -> its settings, JSON      | for ever: until it is deleted      |
| gov:audit_head             | string | the audit log's last entry, NUMBER:MAC    | for ever: a cut log shows by it    |
| gov:overrides              | hash   | an override's id -> what it adds, JSON    | while any is in force              |
| gov:overrides:walker       | string | empty: who looks after all overrides      | by TTL, shorter than two seconds   |
| gov:token:{SHA256}         | string | an API token's record, JSON               | for ever: revoked ones stay known  |
| gov:{WS}:tokens            | hash   | API token id -> record, JSON              | for ever: the list of tokens       |
| gov:{WS}:active            | set    | ids of the API tokens that are not revoked| for ever: read at every admission  |
| gov:{WS}:state             | hash   | `now`: the last time seen, ms; `epoch`,   | for ever: time never goes          |
|                            |        | and what it began with: `candidate`;      | backwards, epochs tell of losses   |
|                            |        | `drained`: records that are in SQL too    |                                    |
| gov:{WS}:restorer          | string | whose turn it is to restore what was lost | by TTL                             |
| gov:{WS}:open              | zset   | reservation id -> end of its lease, ms    | while there are open reservations  |
| gov:{WS}:r:ID              | string | a reservation, MessagePack; empty: one    | until settled; swept ones and those|
|                            |        | that was cancelled before it came         | that were cancelled: by TTL        |
| gov:{WS}:c:COUNTER         | hash   | a counter (lua/_counters.lua has fields)  | by TTL past its window; lifetime   |
|                            |        |                                           | ones for ever; concurrency at zero |
| gov:{WS}:a:ID              | list   | the answer to an adjustment, for a repeat | by TTL, five minutes               |
| gov:{WS}:b:BOOK            | zset   | users of a budget, or sessions -> last    | while it has any: idle ones are    |
|                            |        | used, ms                                  | forgotten, and their number bounded|
| gov:{WS}:t:BOOK            | hash   | the same -> their caps, JSON              | as long as they                    |
| gov:{WS}:ratios:RELEASE    | hash   | protocol and model -> how far true inputs | by TTL: thirty days after the last |
|                            |        | lie above estimates, a histogram, JSON    | of them                            |
| gov:{WS}:journal           | stream | journal records                           | until a minute after SQL has them  |
"""

from __future__ import annotations

WORKSPACES = "gov:workspaces"
SWEEPER = "gov:sweeper"
AUDITOR = "gov:auditor"
DRAINER = "gov:drainer"
BACKFILLER = "gov:backfiller"
BACKFILL_NOTES = "gov:backfill"
LIMITS = "gov:limits"
OVERRIDES = "gov:overrides"
OVERRIDES_WALKER = "gov:overrides:walker"
AUDIT_HEAD = "gov:audit_head"
NOTHING = "gov:nothing"
"""Nobody writes it."""


def api_token(sha256: str) -> str:
    return f"gov:token:{{{sha256}}}"


class WorkspaceKeys:
    """The keys of one workspace. Its name has no brace (settings and commands see to that)."""

    __slots__ = (
        "active_tokens",
        "adjustment_prefix",
        "book_prefix",
        "counter_prefix",
        "journal",
        "open",
        "ratios_prefix",
        "reservation_prefix",
        "restorer",
        "state",
        "terms_prefix",
        "tokens",
    )

    def __init__(self, workspace: str) -> None:
        prefix = f"gov:{{{workspace}}}:"
        self.tokens = prefix + "tokens"
        self.active_tokens = prefix + "active"
        self.state = prefix + "state"
        self.restorer = prefix + "restorer"
        self.open = prefix + "open"
        self.journal = prefix + "journal"
        self.reservation_prefix = prefix + "r:"
        self.counter_prefix = prefix + "c:"
        self.adjustment_prefix = prefix + "a:"
        self.book_prefix = prefix + "b:"
        self.terms_prefix = prefix + "t:"
        self.ratios_prefix = prefix + "ratios:"

    def reservation(self, reservation_id: str) -> str:
        return self.reservation_prefix + reservation_id

    def counter(self, name: str) -> str:
        return self.counter_prefix + name

    def adjustment(self, adjustment_id: str) -> str:
        return self.adjustment_prefix + adjustment_id

    def book(self, name: str) -> str:
        return self.book_prefix + name

    def terms(self, name: str) -> str:
        """Of the members of a book."""
        return self.terms_prefix + name

    def ratios(self, release: str) -> str:
        return self.ratios_prefix + release

    def counter_name(self, key: str) -> str:
        """The inverse of `counter`."""
        return key.removeprefix(self.counter_prefix)
