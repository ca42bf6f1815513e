"""A sidecar on a real server between a real client and a scripted provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import openai
import pytest
from starlette.types import ASGIApp

from govmiddleware.app import Governance
from govmiddleware.core.ids import hash_api_token
from govmiddleware.sidecar import Sidecar
from govmiddleware.testing import ScriptedProvider, serve_in_thread

SECRET = "a-secret-of-any-shape"
TOKEN = {"name": "ci", "workspace": "acme", "role": "admin", "sha256": hash_api_token(SECRET)}


@dataclass(frozen=True, slots=True)
class RunningSidecar:
    """A sidecar, the provider behind it, and clients that talk to it."""

    url: str
    governance: Governance
    provider: ScriptedProvider

    def client(self, **options: object) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=SECRET, **options)  # type: ignore[arg-type]


@pytest.fixture
def run_sidecar(
    make_governance: Callable[..., Governance], gov_provider: tuple[ScriptedProvider, str]
) -> Iterator[Callable[..., RunningSidecar]]:
    """Starts sidecars with settings given as keywords, inside what `around` makes of them; they end with the test."""
    provider, upstream = gov_provider
    with ExitStack() as running:

        def run(around: Callable[[ASGIApp], ASGIApp] = lambda app: app, **settings: object) -> RunningSidecar:
            given = {
                "upstream": upstream,
                "api_tokens": [TOKEN],
                "upstream_api_key": "sk-upstream",
                **settings,
            }
            governance = make_governance(**given)
            server = running.enter_context(serve_in_thread(around(Sidecar(governance))))
            return RunningSidecar(server.url, governance, provider)

        yield run
