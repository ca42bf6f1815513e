"""Events: a limit's soft or hard value was crossed. The ledger's scripts see to it that there is one of each for
every limit, value and window."""

from __future__ import annotations

import msgspec

from govmiddleware.core.refusals import Evaluation


class LimitEvent(msgspec.Struct, frozen=True):
    """A crossing, with the evaluation of the call that it happened at.

    Attributes:
        workspace: of that call.
        is_hard: hard or else soft.
        window: names the window among those of the counter; with the limit, the value and which it is of the two,
            it names the event.
    """

    workspace: str
    evaluation: Evaluation
    is_hard: bool
    window: str
    request_id: str
