"""The real scripts against the model of them: random lives of reservations, the same decisions and books."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.ledger.machine import Machine

from govmiddleware.testing.clock import Clock

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench


def test_the_scripts_decide_and_keep_books_as_the_model_does(
    make_bench: Callable[[Clock], Bench], request: pytest.FixtureRequest
) -> None:
    is_embedded = request.node.callspec.params["gov_server"] == "embedded"
    run_state_machine_as_test(
        lambda: Machine(make_bench),
        settings=settings(
            max_examples=100 if is_embedded else 10,
            stateful_step_count=100,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # shrinking takes minutes: add Phase.shrink where a failure is not plain
        ),
    )
