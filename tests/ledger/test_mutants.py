"""The state machine catches bugs: each of these, planted in the scripts, makes it fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.ledger.machine import Machine, run_machine

from govmiddleware.ledger import scripts
from govmiddleware.testing.clock import Clock

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

MUTANTS = {
    "the check forgets what is reserved": (
        "hard - place.used - place.reserved) or math.huge",
        "hard - place.used) or math.huge",
    ),
    "the output is clamped to a token too many": ("  return output\nend", "  return output + 1\nend"),
    "a refused extension keeps what it held": (
        "step == 'extend' and (exceeded or ",
        "step == 'extend' and not exceeded and (",
    ),
    "what limits in dry_run would refuse feeds them": (
        "if not (is_shadow and shadow_exceeded) then",
        "if true then",
    ),
    "a crossing is told twice": ("  call('HSET', key, field, window)\n", ""),
    "a sliding window is a bucket too short": (
        "local oldest, bucket = current - buckets,",
        "local oldest, bucket = current - buckets + 1,",
    ),
    "buckets that left the window are not subtracted": (
        "place.used, place.reserved = place.used - number(amounts[i]), place.reserved - number(amounts[i + 1])",
        "",
    ),
    "a settlement can be repeated": (
        "call('DEL', reservation)\nlocal count",
        "if swept then call('DEL', reservation) end\nlocal count",
    ),
    "a correction can be repeated": (
        "call('DEL', reservation)\nlocal count",
        "if not swept then call('DEL', reservation) end\nlocal count",
    ),
    "debt is forgiven": (
        "if i + 1 < last then used = min(actual, reserved) end",
        "used = min(actual, reserved)",
    ),
    "a cancelled acquire is taken when it arrives": ("if is_dead or ", "if "),
    "a sweep does not look at the lease": (
        "if not lease_end or lease_end + 0 > now then",
        "if not lease_end then",
    ),
    "time goes backwards": ("return max(now, number(seen[1]))", "return now"),
}


LIVES = 1000
"""Far more than any bug takes, some 25 on average for the rarest: a seed alone does not settle what hypothesis generates,
which also draws on the constants of whatever modules the tests before have imported."""


@pytest.mark.parametrize("gov_server", ["embedded"], indirect=True)
@pytest.mark.parametrize("bug", MUTANTS)
def test_a_bug_in_the_scripts_is_caught(
    bug: str, make_bench: Callable[[Clock], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = MUTANTS[bug]
    found = {name: script for name, script in vars(scripts).items() if old in getattr(script, "source", "")}
    assert found, f"the scripts do not have {old!r}"
    for name, script in found.items():
        assert script.source.count(old) == 1
        monkeypatch.setattr(scripts, name, scripts.Script(script.source.replace(old, new)))
    with pytest.raises(AssertionError):
        run_machine(lambda: Machine(make_bench), lives=LIVES, steps=40, fixed_seed=5)
