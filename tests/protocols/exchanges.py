"""Recorded exchanges with real providers, in GOV_EXCHANGES or in `shared/exchanges` beside the repository."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
EXCHANGES = Path(os.environ.get("GOV_EXCHANGES") or REPOSITORY.parent / "shared" / "exchanges")


@cache
def recorded(protocol: str) -> list[dict[str, Any]]:
    """All exchanges of a protocol; none where there are no recordings."""
    path = EXCHANGES / f"{protocol}.jsonl.gz"
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def answered(protocol: str) -> Iterator[tuple[dict[str, Any], bytes, bool]]:
    """Each exchange that went well, its answer's bytes, and whether they are a stream."""
    for exchange in recorded(protocol):
        if exchange["status"] == 200 and "json" in exchange["content_type"] and exchange["response"]:
            yield exchange, json.dumps(exchange["response"]).encode(), False
        elif exchange["status"] == 200 and "event-stream" in exchange["content_type"]:
            yield exchange, exchange["response_text"].encode(), True
