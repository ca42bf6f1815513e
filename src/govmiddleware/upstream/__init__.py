"""The way to the upstreams: the choice by provider, the streaming forwarder, the HTTP clients it can use."""

from govmiddleware.upstream.by_provider import ByProvider
from govmiddleware.upstream.clients import open_client
from govmiddleware.upstream.connections import Connections
from govmiddleware.upstream.forwarder import Forwarder

__all__ = ["ByProvider", "Connections", "Forwarder", "open_client"]
