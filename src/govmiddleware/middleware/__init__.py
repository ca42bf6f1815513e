"""The middlewares, one thin file each, in the order of a request's way:

Journal, Authenticate, RateLimit, Routes (in a sidecar), Estimate, Budget, Meter. Files with a leading
underscore are what they share: the way in (`_enter`), the body (`_body`) and the way out of a refusal
(`_refuse`).
"""

from govmiddleware.middleware.authenticate import Authenticate
from govmiddleware.middleware.budget import Budget
from govmiddleware.middleware.estimate import Estimate
from govmiddleware.middleware.journal import Journal
from govmiddleware.middleware.meter import Meter
from govmiddleware.middleware.rate_limit import RateLimit
from govmiddleware.middleware.routes import Routes

__all__ = ["Journal", "Authenticate", "RateLimit", "Routes", "Estimate", "Budget", "Meter"]
