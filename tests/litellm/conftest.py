"""A real client, `govmiddleware serve`, a real LiteLLM proxy, and behind it a scripted provider.

LiteLLM and the sidecar run as long as the tests do: they are told apart by request ids and users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
from tests.built import built
from tests.litellm.proxy import MASTER_KEY, LiteLLM
from tests.sidecar.books import Books
from tests.sidecar.processes import serve_processes
from tests.sidecar.waiting import until

import litellm_env
from govmiddleware.core.ids import hash_api_token
from govmiddleware.ledger.embedded import EmbeddedStore
from govmiddleware.services.records import Record
from govmiddleware.testing import Script, ScriptedProvider, serve_in_thread

SECRET = "a-secret-of-any-shape"

CONFIGURATION = f"""
upstream_api_key = "{MASTER_KEY}"

# One is a model group, the other has a fallback: the dearest that may serve them, or a dearer one.
[[prices]]
model = "house-model"
same_as = "gpt-4o"

[[prices]]
model = "frail-model"
same_as = "gpt-4-turbo"

# For every call, so that there are counters to audit.
[[limits]]
name = "everyone"
scope = "workspace"
meter = "cost_usd"
window = "month"
hard = 10

[[limits]]
name = "everyone-tokens"
scope = "workspace"
meter = "total_tokens"
rate = "1000000/hour"

# For the races, each on a user of its own.
[[limits]]
name = "requests"
scope = "user"
value = "frequent"
meter = "requests"
rate = "12/minute"

[[limits]]
name = "tokens"
scope = "user"
value = "talkative"
meter = "total_tokens"
rate = "900/minute"

[[limits]]
name = "budget"
scope = "user"
value = "poor"
meter = "cost_usd"
window = "month"
hard = 0.001
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A sidecar process in front of LiteLLM, and what an auditor sees of it."""

    url: str
    config: Path
    books: Books

    def client(self, **options: object) -> openai.OpenAI:
        """The SDK, which does not try again by itself unless told to."""
        given = {"api_key": SECRET, "max_retries": 0, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **given)  # type: ignore[arg-type]

    def record(self, headers: Mapping[str, str]) -> Record:
        """The outcome of the request that was answered with these headers, once it is in the journal."""
        request_id = headers["x-gov-request-id"]
        found = until(lambda: [one for one in self.books.records() if one.request_id == request_id])
        assert len(found) == 1
        return found[0]


@pytest.fixture(scope="session")
def litellm_command() -> Path:
    return built(litellm_env.COMMAND, litellm_env)


@pytest.fixture(scope="session")
def shared_provider(litellm_command: Path) -> Iterator[tuple[ScriptedProvider, str]]:
    provider = ScriptedProvider()
    with serve_in_thread(provider) as server:
        yield provider, server.url


@pytest.fixture
def provider(shared_provider: tuple[ScriptedProvider, str]) -> ScriptedProvider:
    """Behind LiteLLM's `gpt-3.5-turbo` and `text-embedding-3-small`; nobody has asked it anything yet."""
    provider, _ = shared_provider
    provider.script = Script()
    provider.exchanges.clear()
    return provider


@pytest.fixture(scope="session")
def starting_litellm(
    litellm_command: Path,
    shared_provider: tuple[ScriptedProvider, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiteLLM]:
    litellm = LiteLLM(litellm_command, shared_provider[1], tmp_path_factory.mktemp("litellm"))
    litellm.start()
    yield litellm
    litellm.kill()


@pytest.fixture(scope="session")
def litellm(starting_litellm: LiteLLM, shared_gateway: Gateway) -> LiteLLM:
    """Ready. Meanwhile the sidecar has started too."""
    starting_litellm.wait_until_ready()
    return starting_litellm


@pytest.fixture(scope="session")
def govern(
    starting_litellm: LiteLLM, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Gateway]]:
    """Starts sidecars in front of LiteLLM with more configuration; they end with the session.

    `upstream=None`: the configuration says where LiteLLM is.
    """
    with ExitStack() as running:

        def run(more: str, *, upstream: str | None = starting_litellm.url) -> Gateway:
            folder = tmp_path_factory.mktemp("gov")
            store = running.enter_context(EmbeddedStore(folder / "data"))
            journal_url = f"sqlite:///{folder}/journal.sqlite"
            config = folder / "govmiddleware.toml"
            config.write_text(
                f"""
                {f'upstream = "{upstream}"' if upstream else ""}
                redis_url = "{store}"
                journal_url = "{journal_url}"
                {more}
                [[api_tokens]]
                name = "ci"
                workspace = "acme"
                sha256 = "{hash_api_token(SECRET)}"
                """
            )
            [sidecar] = running.enter_context(serve_processes(config))
            return Gateway(sidecar.url, config, Books(store, journal_url=journal_url))

        yield run


@pytest.fixture(scope="session")
def shared_gateway(govern: Callable[..., Gateway]) -> Gateway:
    return govern(CONFIGURATION)


@pytest.fixture
def gateway(shared_gateway: Gateway, litellm: LiteLLM) -> Iterator[Gateway]:
    """The sidecar of most tests; after each its books must balance."""
    yield shared_gateway
    until(lambda: shared_gateway.books.open_reservations() == 0)
    findings = shared_gateway.books.audit()
    assert findings.ok, findings


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client that shows what is on the wire."""
    headers = {"authorization": f"Bearer {SECRET}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
        yield client
