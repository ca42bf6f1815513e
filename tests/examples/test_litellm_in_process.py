"""examples/litellm_in_process: LiteLLM's own app and ours in one process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import httpx
import openai
import pytest
from tests.built import built
from tests.examples.conftest import Example
from tests.litellm.proxy import MASTER_KEY, STARTS_WITHIN
from tests.sidecar.books import Books
from tests.sidecar.processes import end, free_port
from tests.sidecar.waiting import until

import govmiddleware
import litellm_env

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50}


@pytest.fixture
def files(example: Callable[[str], Example]) -> Example:
    return example("litellm_in_process")


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A PYTHONPATH by which another environment, which has what we need, has us."""
    [metadata] = Path(str(distribution("govmiddleware").locate_file(""))).glob("govmiddleware-*.dist-info")
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / metadata.name).symlink_to(metadata)
    assert govmiddleware.__file__ is not None
    return os.pathsep.join([str(tmp_path / "installed"), str(Path(govmiddleware.__file__).parents[1])])


@pytest.fixture
def url(files: Example, installed: str, tmp_path: Path) -> Iterator[str]:
    """Where it answers."""
    environment = os.environ | {
        "PYTHONPATH": installed,
        "HOME": str(tmp_path),
        "CONFIG_FILE_PATH": "litellm.yaml",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }
    port = free_port()
    python = built(litellm_env.PYTHON, litellm_env)
    command = [str(python), "-m", "uvicorn", "app:app", "--port", str(port)]
    log = tmp_path / "uvicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=files.folder, env=environment, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: process.poll() is not None or _lives(url), within=STARTS_WITHIN)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        end(process)


def _lives(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/liveliness").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.timeout(STARTS_WITHIN + 60)
def test_litellm_answers_whom_we_let_in_and_nobody_else(files: Example, url: str, books: Books) -> None:
    [answer] = files.requests("app.py", url)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello, I am a mock."
    assert answer.headers["x-litellm-response-cost"] == "1.35e-05"
    with openai.OpenAI(base_url=f"{url}/v1", api_key=files.token, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["gpt-4o-mini"]
        stream = client.chat.completions.create(
            model="gpt-4o-mini", stream=True, messages=[{"role": "user", "content": "Hello"}]
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello, I am a mock."

    another = "/openai/deployments/gpt-4o-mini/chat/completions"
    for path, key, body in [
        (CHAT, MASTER_KEY, BODY),
        ("/key/info", MASTER_KEY, None),
        (another, files.token, BODY),
    ]:
        authorization = {"authorization": f"Bearer {key}"}
        refused = httpx.request("POST" if body else "GET", url + path, json=body, headers=authorization)
        assert refused.status_code == 401, path

    chat, _, streamed, elsewhere = until(lambda: found if len(found := books.records()) == 4 else None)
    assert [record.settlement for record in (chat, streamed)] == ["exact"] * 2
    assert (chat.user, chat.model_served, chat.cost_usd) == ("ann", "openai/gpt-4o-mini", "0.000013500")
    assert (elsewhere.status, elsewhere.cost_usd) == (401, "0.000000000")
    assert books.audit().ok
