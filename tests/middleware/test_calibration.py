"""Bounds that learn, through the whole stack on a real store."""

from __future__ import annotations

from typing import Any

from govmiddleware.app import Governance
from govmiddleware.core.calibration import LEAST_OBSERVATIONS
from govmiddleware.core.estimate import input_bound
from govmiddleware.ledger.calibration import RedisCalibration
from govmiddleware.testing.provider import Script

LONG = {"messages": [{"role": "user", "content": "word " * 200}]}


def reserved(call: Any) -> tuple[int, int]:
    """Estimate and bound of the input."""
    return call.estimated_input_tokens, call.demand.input_tokens


async def test_after_fifty_settled_requests_a_bound_is_what_the_provider_says_and_not_what_is_shipped(
    governed, inside, post
) -> None:
    governance: Governance = await governed()
    app = governance.stack(inside)
    await post(app, **LONG)
    estimate, shipped = reserved(inside.calls[-1])
    assert shipped == input_bound(estimate, "m")
    inside.provider.script = Script(usage={"prompt_tokens": estimate + 10, "completion_tokens": 5})
    for _ in range(LEAST_OBSERVATIONS):
        await post(app, **LONG)
    await governance.calibrator.refresh()
    await post(app, **LONG)
    estimate, learned = reserved(inside.calls[-1])
    assert estimate + 10 <= learned < (estimate + shipped) / 2
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    await post(app, messages=[{"role": "user", "content": [{"type": "text", "text": "Who?"}, picture]}])
    estimate, bound = reserved(inside.calls[-1])
    assert bound == input_bound(estimate, "m"), "of what has media nothing is known"


async def test_what_was_observed_last_is_in_the_store_when_a_worker_ends(governed, inside, post) -> None:
    ending = await governed()
    await post(ending.stack(inside), **LONG)
    await ending.close()
    async with ending.store():
        assert len(await RedisCalibration(ending.storage.redis).read("acme")) == 1
