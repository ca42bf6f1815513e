"""Calls that leave from inside an app: through an HTTP client's transport, or in a block of code.

They take the same way as those that come in, through Estimate, Budget and Meter; only that nobody sends an
API token with them. They are made for the request that runs, or for a principal that is named.
"""

from govmiddleware.inside.block import GovernedBlock
from govmiddleware.inside.calls import InnerCalls
from govmiddleware.inside.loops import Home, call_on, run_on
from govmiddleware.inside.transport import GovernedTransport

__all__ = ["GovernedBlock", "GovernedTransport", "Home", "InnerCalls", "call_on", "run_on"]
