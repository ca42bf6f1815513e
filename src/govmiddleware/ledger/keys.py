"""Every key name in the store, and how long each lives.

All keys of a workspace share the hash tag `{workspace}`, so that they lie in one cluster slot and one
script can change them together.

| key                        | type   | holds                                     | lives                              |
|----------------------------|--------|-------------------------------------------|------------------------------------|
| gov:workspaces             | set    | names of all workspaces                   | for ever: the directory            |
| gov:sweeper                | string | who walks all workspaces: HOST:PID        | by TTL, shorter than sweep_seconds |
| gov:limits                 | hash   | a limit's name -> its settings, JSON      | for ever: until it is deleted      |
| gov:token:{SHA256}         | string | an API token's record, JSON               | for ever: revoked ones stay known  |
| gov:{WS}:tokens            | hash   | API token id -> record, JSON              | for ever: the list of tokens       |
| gov:{WS}:active            | set    | ids of the API tokens that are not revoked| for ever: read at every admission  |
| gov:{WS}:state             | hash   | `now`: the last time seen, ms             | for ever: time never goes backwards|
| gov:{WS}:open              | zset   | reservation id -> end of its lease, ms    | while there are open reservations  |
| gov:{WS}:r:ID              | hash   | a reservation: counter key -> hold, `rec` | until settled or swept (a tombstone|
|                            |        |                                           | of a cancelled one: by TTL)        |
| gov:{WS}:c:COUNTER         | hash   | a counter (lua/_counters.lua has fields)  | by TTL past its window; lifetime   |
|                            |        |                                           | ones for ever; concurrency at zero |
| gov:{WS}:journal           | stream | journal records                           | for ever: nothing trims it yet     |
"""

from __future__ import annotations

WORKSPACES = "gov:workspaces"
SWEEPER = "gov:sweeper"
LIMITS = "gov:limits"


def api_token(sha256: str) -> str:
    return f"gov:token:{{{sha256}}}"


class WorkspaceKeys:
    """The keys of one workspace. Its name has no brace (settings and commands see to that)."""

    __slots__ = (
        "active_tokens",
        "counter_prefix",
        "journal",
        "open",
        "reservation_prefix",
        "state",
        "tokens",
    )

    def __init__(self, workspace: str) -> None:
        prefix = f"gov:{{{workspace}}}:"
        self.tokens = prefix + "tokens"
        self.active_tokens = prefix + "active"
        self.state = prefix + "state"
        self.open = prefix + "open"
        self.journal = prefix + "journal"
        self.reservation_prefix = prefix + "r:"
        self.counter_prefix = prefix + "c:"

    def reservation(self, reservation_id: str) -> str:
        return self.reservation_prefix + reservation_id

    def counter(self, name: str) -> str:
        return self.counter_prefix + name

    def counter_name(self, key: str) -> str:
        """The inverse of `counter`."""
        return key.removeprefix(self.counter_prefix)
