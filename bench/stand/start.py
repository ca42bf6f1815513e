"""What it costs to begin, and whether a worker stays as small as it was."""

from __future__ import annotations

import compileall
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import govmiddleware
from stand import load
from stand.processes import BENCH, free_port, running, wait_for
from stand.targets import TOKEN, Target

USES = {
    "an app": "from govmiddleware import Governance, GovernanceMiddleware",
    "serve": "import govmiddleware.cli.serve, govmiddleware.cli.server",
}
IMPORT_US = """
import json, sys, time
began = time.process_time()
{use}
taken = time.process_time() - began
theirs = [
    name for name, module in sys.modules.items()
    if "site-packages" in (getattr(module, "__file__", None) or "") and not name.startswith("govmiddleware")
]
print(json.dumps([taken, theirs]))
"""
IMPORT_THEM = """
import importlib, json, sys, time
names = json.load(sys.stdin)
began = time.process_time()
for name in names:
    importlib.import_module(name)
print(time.process_time() - began)
"""


def compile_bytecode() -> None:
    """Ours, as an installed wheel has it, also where the environment keeps Python from writing any."""
    compileall.compile_dir(Path(govmiddleware.__file__).parent, quiet=2)


def imports(tries: int) -> dict[str, dict[str, float]]:
    """Importing us for a use, and importing no more than the modules of others that this loads, in turns and each in a
    fresh interpreter: the least CPU time of these tries, in ms, and the median of the ratios of neighbours, for the
    machine may be twice as fast a second later."""
    return {name: _imports(use, tries) for name, use in USES.items()}


def _imports(use: str, tries: int) -> dict[str, float]:
    ours, theirs = [], []
    for _ in range(tries):
        taken, names = json.loads(_python(IMPORT_US.format(use=use)))
        ours.append(taken)
        theirs.append(float(_python(IMPORT_THEM, json.dumps(names))))
    ratio = statistics.median(each / other for each, other in zip(ours, theirs, strict=True))
    return {"ms": min(ours) * 1e3, "dependencies_ms": min(theirs) * 1e3, "ratio": ratio}


def _python(code: str, given: str = "") -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True
    )
    return ran.stdout


def seconds_until_ready(folder: Path, tries: int) -> float:
    """`serve` with an embedded store of its own, from the command to an answer of `/gov/readyz`: the median."""
    taken = []
    for number in range(tries):
        config, port = folder / f"start-{number}.toml", free_port()
        config.write_text(f'upstream = "http://127.0.0.1:1"\ndata_dir = "{folder / str(number)}"\n{TOKEN}')
        command = [sys.executable, "-m", "govmiddleware", "serve"]
        command += ["--config", str(config), "--port", str(port)]
        began = time.perf_counter()
        with running(f"start-{number}", command, folder, cwd=BENCH) as program:
            url = f"http://127.0.0.1:{port}/gov/readyz"
            wait_for(program, partial(urllib.request.urlopen, url, timeout=5))
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def resident(target: Target, body: Path, *, requests: int, within: float) -> dict[str, Any]:
    """The worker's memory under load, until it has answered so many more requests, or for so many seconds.

    Growth is from the first fifth of them to their end.
    """
    deadline = time.monotonic() + within
    seen: list[tuple[int, float]] = []
    total = 0
    while total < requests and time.monotonic() < deadline:
        sample = load.with_wrk(target, body, connections=16, seconds=max(1, within / 20))
        total += int(sample.figures["requests"])
        seen.append((total, sample.memory_mb))
    begun = next(memory for count, memory in seen if count >= total / 5)
    return {"requests": total, "memory_mb": seen[-1][1], "growth_mb": seen[-1][1] - begun, "seen": seen}
