"""LiteLLM registers its spend tracker (_ProxyDBLogger) only when a database is connected; this registers the same object without one."""

from litellm.proxy.hooks.proxy_track_cost_callback import _ProxyDBLogger

logger = _ProxyDBLogger()
