"""What run_local.sh does. The standard library alone: it builds the environments that the others run in."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import cached_build  # noqa: E402
import litellm_env  # noqa: E402

PATIENCE_SECONDS = 120
"""LiteLLM imports for ten seconds, and several times as long on a busy machine."""


class Failed(Exception):
    """Something was not as it should be."""


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory(prefix="govmiddleware-litellm-") as folder:
            show_all(Path(folder))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (Failed, subprocess.CalledProcessError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    print("\nAll was as it should be, and all has ended.")
    return 0


def show_all(folder: Path) -> None:
    heading("Environments (the first time takes a minute)")
    cached_build.build(litellm_env.directory(), litellm_env.COMMAND, litellm_env.commands)
    litellm = litellm_env.directory()
    ours = govmiddleware_python()

    heading("Processes")
    key, admin_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    litellm_url, url, prometheus_url = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    around = {name: value for name, value in os.environ.items() if not name.startswith("GOV_")}
    ours_environment = {
        **around,
        "GOV_ADMIN_TOKEN": admin_token,
        "GOV_CONFIG": str(HERE / "govmiddleware.toml"),
        "GOV_DATA_DIR": str(folder / "data"),
        "GOV_REDIS_URL": "embedded",
        "GOV_UPSTREAM": litellm_url,
        "GOV_UPSTREAM_API_KEY": key,
        "COLUMNS": "200",
    }
    litellm_environment = {
        **around,
        "HOME": str(folder),
        "LITELLM_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(32)}",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_TELEMETRY": "False",
        "NO_DOCS": "True",
        "OPENAI_API_KEY": os.environ.get("OPENAI_API_KEY") or "none",
        "ANTHROPIC_API_KEY": os.environ.get("ANTHROPIC_API_KEY") or "none",
    }
    govmiddleware = [ours, "-m", "govmiddleware"]

    def run(*arguments: str) -> str:
        command = [*govmiddleware, *arguments]
        ran = subprocess.run(command, env=ours_environment, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise Failed(f"govmiddleware {' '.join(arguments)}:\n{ran.stdout}{ran.stderr}")
        return ran.stdout

    proxy = [litellm / litellm_env.COMMAND, "--config", HERE / "config.yaml"]
    with (
        process("LiteLLM", [*proxy, *at(litellm_url)], litellm_environment, folder) as wait_for_litellm,
        process(
            "govmiddleware", [*govmiddleware, "serve", *at(url)], ours_environment, folder
        ) as wait_for_us,
        prometheus(prometheus_url, url, folder) as wait_for_prometheus,
    ):
        client_environment = {
            **os.environ,
            "OPENAI_BASE_URL": f"{url}/v1",
            "APP_TOKEN": run("token", "create", "my-app", "--workspace", "acme").strip(),
            "NIGHTLY_TOKEN": run("token", "create", "nightly-report", "--workspace", "acme").strip(),
        }
        wait_for_us(f"{url}/gov/readyz")
        wait_for_litellm(f"{litellm_url}/health/liveliness")

        heading("A client: the openai SDK through govmiddleware")
        # LiteLLM's environment has the SDK.
        subprocess.run([litellm / "bin/python", HERE / "client.py"], env=client_environment, check=True)

        heading("Usage by user, and the limits")
        print(run("usage", "--by", "user"))
        usage = usage_by_user(url, admin_token)
        [trial] = [float(group["cost_usd"]) for group in usage["groups"] if group["id"] == "trial"]
        expect(0 < trial <= 0.002, f"the trial's budget of 0.002 USD held: {trial} were spent")

        heading("Usage by the tag that LiteLLM's clients send")
        print(run("usage", "--by", "tag:team").partition("\n\n")[0])

        heading("The audit: every counter against the journal")
        print(run("audit").strip())  # exits with 1 where they differ

        heading("Prometheus")
        if wait_for_prometheus is None:
            print("It is not installed (Debian's package is called prometheus): left out.")
            return
        wait_for_prometheus(f"{prometheus_url}/-/ready")
        query = 'sum(govmiddleware_requests_total{status="2xx"})'
        answered = usage["totals"]["requests"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (seen := prometheus_value(prometheus_url, query)) != answered and time.monotonic() < deadline:
            time.sleep(0.1)
        expect(seen == answered, f"{query} is {seen}, and the journal has {answered} answered requests")


@contextmanager
def prometheus(prometheus_url: str, url: str, folder: Path) -> Iterator[Ready | None]:
    """Runs it, where it is installed, on the configuration of the containers with our addresses."""
    program = shutil.which("prometheus")
    if program is None:
        yield None
        return
    text = (HERE / "prometheus.yml").read_text()
    for theirs, here in {
        "govmiddleware:8080": url.removeprefix("http://"),
        "/etc/prometheus/rules": str(ROOT / "observability/alerts"),
        "15s": "1s",
    }.items():
        text = text.replace(theirs, here)
    config = folder / "prometheus.yml"
    config.write_text(text)
    address = prometheus_url.removeprefix("http://")
    flags = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address={address}",
    ]
    with process("Prometheus", [program, *flags], dict(os.environ), folder) as wait:
        yield wait


def usage_by_user(url: str, admin_token: str) -> dict[str, Any]:
    """What the control plane says, as programs ask it."""
    request = Request(f"{url}/gov/api/v1/usage?by=user", headers={"authorization": f"Bearer {admin_token}"})
    with urlopen(request, timeout=5) as answer:
        usage: dict[str, Any] = json.load(answer)
    return usage


def prometheus_value(prometheus_url: str, query: str) -> float | None:
    with urlopen(f"{prometheus_url}/api/v1/query?{urlencode({'query': query})}", timeout=5) as answer:
        result = json.load(answer)["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def govmiddleware_python() -> str:
    """Of an environment with govmiddleware in it: this one, or one that is built from the pinned requirements."""
    if find_spec("govmiddleware") is not None:
        return sys.executable
    requirements = ROOT / "requirements/runtime.txt"
    pins = requirements.read_bytes() + bytes(ROOT)
    target = cached_build.directory("GOVMIDDLEWARE_EXAMPLE", "example", pins)

    def commands(aside: Path) -> list[cached_build.Command]:
        install = ["uv", "--quiet", "pip", "install", "--python", aside, "--compile-bytecode"]
        return [
            ["uv", "--quiet", "venv", "--relocatable", "--python", sys.executable, aside],
            [*install, "--require-hashes", "-r", requirements],
            [*install, "--no-deps", "--editable", ROOT],
        ]

    cached_build.build(target, Path("bin/govmiddleware"), commands)
    return str(target / "bin/python")


@contextmanager
def process(
    name: str, command: Sequence[str | Path], environment: Mapping[str, str], folder: Path
) -> Iterator[Ready]:
    """Runs a program until the block ends, however it ends. Yields what waits until an address of it answers."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        # Of a session of its own, so that ctrl-c reaches us alone, and each is ended in its turn.
        started = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )
    print(f"{name} is process {started.pid}", flush=True)
    try:
        yield Ready(name, started, log)
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


class Ready:
    """Waits until a program answers. Raises Failed, with the end of its log, where it does not."""

    def __init__(self, name: str, started: subprocess.Popen[bytes], log: Path) -> None:
        self._name, self._started, self._log = name, started, log

    def __call__(self, url: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self._started.poll() is None:
            try:
                with urlopen(url, timeout=5):
                    return
            except (URLError, OSError):
                time.sleep(0.1)
        raise Failed(f"{self._name} did not start:\n{self._log.read_text()[-3000:]}")


def at(url: str) -> list[str]:
    host, _, port = url.removeprefix("http://").partition(":")
    return ["--host", host, "--port", port]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise Failed(f"not so: {what}")
    print(f"OK: {what}")


if __name__ == "__main__":
    sys.exit(main())
