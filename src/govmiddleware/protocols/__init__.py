"""Wire protocols: how a provider's API is recognised, read, bounded, metered and answered.

Pure: bytes and values in, bytes and values out. `registry.recognise` finds the protocol of a request;
each protocol implements `core.ports.WireProtocol`.
"""
