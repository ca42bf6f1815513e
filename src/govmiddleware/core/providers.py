"""Which provider a call goes to: the first, in the configuration's order, that takes its model."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec


class Provider(msgspec.Struct, frozen=True):
    """Who serves models: an upstream of the sidecar, or whatever a host app calls.

    Attributes:
        name: the value of scope `provider`.
        models: shell globs of the models that it takes. Letter case counts, and `*` stands for slashes too.
            None takes every model.
        url: where it is, for whose prices count; None where that is not known.
        trust_cost_header: whether what its answers say that they cost is believed (LiteLLM's header).
    """

    name: str = "default"
    models: tuple[str, ...] | None = None
    url: str | None = None
    trust_cost_header: bool = False

    def takes(self, model: str) -> bool:
        return self.models is None or any(fnmatchcase(model, glob) for glob in self.models)


def provider_for(model: str | None, providers: Sequence[Provider]) -> Provider | None:
    """The first that takes the model, or None; for a request that names no model the first of all."""
    if model is None:
        return providers[0]
    for provider in providers:
        if provider.models is None or provider.takes(model):
            return provider
    return None
