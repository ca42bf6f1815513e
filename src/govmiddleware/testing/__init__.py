"""For tests of people's apps: a pytest fixture on the embedded store, a clock, a scripted provider."""

from govmiddleware.testing.clock import Clock
from govmiddleware.testing.provider import Exchange, Script, ScriptedProvider
from govmiddleware.testing.server import RunningServer, serve_in_thread

__all__ = ["Clock", "Exchange", "RunningServer", "Script", "ScriptedProvider", "serve_in_thread"]
