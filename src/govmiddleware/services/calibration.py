"""The calibrator: input bounds that learn from what settled requests really took, for each workspace and model.

A request never waits for it. What a worker observes it merges into the store every few seconds, and at the same
time reads what others have learned. Until a workspace was read, and for what the store has lost, shipped bounds stand.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated

import msgspec

from govmiddleware.core.calibration import LAST_BUCKET, SIZES, CalibrationStore, Learned, Ratios, size_of
from govmiddleware.core.call import Call, Settlement
from govmiddleware.core.charge import Charge
from govmiddleware.core.estimate import input_bound
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.usage import NO_USAGE, Usage
from govmiddleware.metrics import Metrics

CALIBRATION_SECONDS = 5.0
"""How often a worker merges and reads, and so how old what it applies may be."""

_MOST_HISTOGRAMS = 500
"""Of a workspace: the first so many are kept. Only where `*` has a price can clients invent models."""
_LONGEST_MODEL = 128
_IDLE_SECONDS = 3600.0
"""After which a worker forgets a workspace; the store has what it learned."""
_TRIES = 3
"""Of a merge that other workers get ahead of; after them it is for the next round."""

Model = tuple[str, str]
"""Protocol, and the model as the client names it."""
Kind = tuple[str, str, int]
"""Protocol, model and size of prompts: each has a histogram."""

_Bucket = Annotated[int, msgspec.Meta(ge=0, le=LAST_BUCKET)]
_Weight = Annotated[float, msgspec.Meta(gt=0)]
_News = defaultdict[Kind, Ratios]


class _Workspace(msgspec.Struct):
    """What a worker knows of one.

    Attributes:
        used: when it was last asked for.
        news: observed since the last merge.
        models: what is learned of each model, by size; of all sizes together where that one has shown too little.
    """

    used: float
    news: _News = msgspec.field(default_factory=lambda: defaultdict(Ratios))
    models: Mapping[Model, Sequence[Learned]] = {}


class Calibrator:
    """Bounds inputs, and learns from those that settled.

    What is not counted from texts alone, as with media or hosted tools, is left out of both: its bound is as shipped.

    Args:
        store: keeps what is learned, for all workers.
        coverage: how often a bound shall hold, below 1.
    """

    def __init__(
        self,
        store: CalibrationStore,
        metrics: Metrics,
        *,
        coverage: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._coverage = coverage
        self._clock = clock
        self._workspaces: dict[str, _Workspace] = {}
        self._refreshed = 0.0

    def bound(self, call: Call, info: RequestInfo, estimate: int) -> int:
        """Input tokens to reserve for a request of this estimate."""
        shipped = input_bound(estimate, info.model)
        if call.principal is None or not _is_plain(info):
            return shipped
        call.shows_its_size = True
        models = self._workspace(call.principal.workspace).models
        by_size = models.get((call.protocol.name, info.model))
        if by_size is None:
            return shipped
        return by_size[size_of(estimate)].bound(estimate, shipped=shipped, most=lambda: _most(info))

    def settled(self, call: Call, charge: Charge) -> None:
        """Learn from a call that ended, if the provider itself said what its input took."""
        usage, estimate = charge.usage, call.estimated_input_tokens
        if charge.settlement is not Settlement.EXACT or not usage.input_tokens or not estimate:
            return
        self._metrics.estimated(call, usage)
        model = call.model or ""
        if len(model) > _LONGEST_MODEL or not call.shows_its_size or _has_others(usage):
            return
        workspace = self._workspace(call.require_principal().workspace)
        size = size_of(estimate)
        kind = call.protocol.name, model, size
        if kind in workspace.news or len(workspace.news) < _MOST_HISTOGRAMS:
            workspace.news[kind].observe(estimate, usage.input_tokens)
        if by_size := workspace.models.get(kind[:2]):
            self._metrics.calibrated(call, SIZES[size - 1] if size else 0, by_size[size].ratio)

    async def refresh(self) -> None:
        """Merge what was observed, and read what is learned, of the workspaces that were used since the last time.

        Raises StoreUnavailable; what the store does not take then is lost: further requests teach the same.
        """
        since, self._refreshed = self._refreshed, self._clock()
        for name, workspace in list(self._workspaces.items()):
            if workspace.used >= since or workspace.news:
                await self._merge(name, workspace)
            elif workspace.used < self._refreshed - _IDLE_SECONDS:
                del self._workspaces[name]

    async def _merge(self, name: str, workspace: _Workspace) -> None:
        news, workspace.news = workspace.news, defaultdict(Ratios)
        for _ in range(_TRIES):
            stored = await self._store.read(name)
            ratios = _decoded(stored)
            for kind, observed in news.items():
                if kind in ratios or len(ratios) < _MOST_HISTOGRAMS:
                    ratios.setdefault(kind, Ratios()).learn(observed, self._coverage)
            changed = {_field(kind): _encoded(ratios[kind]) for kind in news if kind in ratios}
            seen = {field: stored.get(field) for field in changed}
            if not changed or await self._store.replace(name, seen, changed):
                break
        else:
            for kind, observed in news.items():
                workspace.news[kind] = Ratios.together([workspace.news[kind], observed])
        workspace.models = self._learned(ratios)

    def _learned(self, ratios: Mapping[Kind, Ratios]) -> dict[Model, Sequence[Learned]]:
        found: dict[Model, Sequence[Learned]] = {}
        for model in {kind[:2] for kind in ratios}:
            by_size = [ratios.get((*model, size), Ratios()) for size in range(len(SIZES) + 1)]
            if learned := Ratios.together(by_size).learned(self._coverage):
                found[model] = [each.learned(self._coverage) or learned for each in by_size]
        return found

    def _workspace(self, name: str) -> _Workspace:
        found = self._workspaces.get(name)
        if found is None:
            found = self._workspaces[name] = _Workspace(0)
        found.used = self._clock()
        return found


def _is_plain(info: RequestInfo) -> bool:
    """Whether its estimate was counted from its texts alone."""
    if info.unknown_parts or info.input_tokens or info.reach.media:
        return False
    beside = info.reach.beside_tokens
    return beside is NO_USAGE or beside == NO_USAGE


def _has_others(usage: Usage) -> bool:
    """Whether hosted tools or media were in the input all the same."""
    media = usage.input_audio_tokens or usage.input_image_tokens or usage.input_video_tokens
    return bool(media or usage.web_searches or usage.file_searches)


def _most(info: RequestInfo) -> int:
    """No tokenizer makes more tokens than there are bytes."""
    in_bytes = sum(len(text.encode(errors="surrogatepass")) for text in info.texts)
    return info.overhead_tokens + info.known_bytes + in_bytes


def _field(kind: Kind) -> str:
    """Of the hash in the store."""
    return msgspec.json.encode(kind).decode()


def _encoded(ratios: Ratios) -> bytes:
    return msgspec.json.encode({bucket: round(weight, 3) for bucket, weight in ratios.weights.items()})


def _decoded(stored: Mapping[str, bytes]) -> dict[Kind, Ratios]:
    """Without what somebody else wrote there: it is begun anew."""
    found = {}
    for name, value in stored.items():
        with suppress(msgspec.MsgspecError):
            kind = msgspec.json.decode(name, type=Kind)
            found[kind] = Ratios(msgspec.json.decode(value, type=dict[_Bucket, _Weight]))
    return found
