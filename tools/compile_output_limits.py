"""Compile LiteLLM's model map (MIT, BerriAI) into src/govmiddleware/data/output_limits.json.

    pip download --no-deps litellm -d DIR
    python tools/compile_output_limits.py DIR/litellm-*.whl [DATE]

Kept: `max_output_tokens` of the models that generate text, by LiteLLM's name for them, and by the
name behind the provider's prefix (the largest, as this bounds) where the model is not known by itself: several
hosts give the context window for it, of Claude and Gemini for two.
"""

from __future__ import annotations

import datetime
import json
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/govmiddleware/data/output_limits.json"
MAP = "litellm/model_prices_and_context_window_backup.json"
MODES = {"chat", "completion", "responses", None}


def main() -> None:
    wheel = Path(sys.argv[1])
    date = sys.argv[2] if len(sys.argv) > 2 else datetime.date.today().isoformat()
    with zipfile.ZipFile(wheel) as archive:
        models = json.loads(archive.read(MAP))
    limits: dict[str, int] = {}
    hosted: defaultdict[str, int] = defaultdict(int)
    for name, model in models.items():
        limit = model.get("max_output_tokens")
        if name == "sample_spec" or model.get("mode") not in MODES or not isinstance(limit, int) or limit < 1:
            continue
        name = name.lower()
        limits[name] = limit
        rest = name
        while "/" in rest:
            rest = rest.partition("/")[2]
            hosted[rest] = max(hosted[rest], limit)
    by_themselves = {name for name in limits if "/" not in name}
    unknown = {name: limit for name, limit in hosted.items() if name.rpartition("/")[2] not in by_themselves}
    limits = {**unknown, **limits}
    # A prefixed name that says the same as the name behind it is found through that.
    kept = {name: limit for name, limit in limits.items() if limits.get(name.partition("/")[2]) != limit}
    by_limit: defaultdict[int, list[str]] = defaultdict(list)
    for name in sorted(kept):
        by_limit[kept[name]].append(name)
    document = {
        "source": "litellm",
        "version": wheel.name.split("-")[1],
        "date": date,
        "licence": "MIT, Copyright (c) 2023 Berri AI",
        "limits": {str(limit): by_limit[limit] for limit in sorted(by_limit)},
    }
    TARGET.write_text(json.dumps(document, separators=(",", ":")) + "\n", "utf-8")
    print(f"{TARGET}: {len(kept)} names, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
