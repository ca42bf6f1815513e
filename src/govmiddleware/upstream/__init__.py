"""The way to the upstream: the streaming forwarder and the HTTP clients it can use."""

from govmiddleware.upstream.clients import open_client
from govmiddleware.upstream.forwarder import Forwarder

__all__ = ["Forwarder", "open_client"]
