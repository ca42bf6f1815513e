"""What the process that workers are forked from imports and reads: each starts sooner, and shares it in memory."""

from __future__ import annotations

import gc

from govmiddleware.cli import worker
from govmiddleware.core.reference_counter import CL100K, O200K
from govmiddleware.core.tokens import load

__all__ = ["worker"]

for vocabulary in (O200K, CL100K):
    load(vocabulary)

# Python's collector writes into each object that it looks at, and so would make copies of what workers share.
gc.collect()
gc.freeze()
