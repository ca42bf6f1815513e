"""The real scripts decide and keep books as the model does; and where they would not, the machine catches it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.ledger.machine import Machine, run_machine

from govmiddleware.testing.clock import Clock

if TYPE_CHECKING:
    from tests.ledger.conftest import Bench

STEPS = int(os.environ.get("GOV_MODEL_STEPS", "10000"))


@pytest.mark.timeout(600)  # 10,000 steps: half a minute on a machine that does nothing else
def test_the_scripts_decide_and_keep_books_as_the_model_does(
    make_bench: Callable[[Clock], Bench], request: pytest.FixtureRequest
) -> None:
    is_embedded = request.node.callspec.params["gov_server"] == "embedded"
    run_machine(lambda: Machine(make_bench), lives=STEPS // 100 if is_embedded else 10, steps=100)
