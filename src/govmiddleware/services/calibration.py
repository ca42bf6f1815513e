"""The calibrator: input bounds that learn from what settled requests really took, for each workspace and model.

A request never waits for it. What a worker observes it merges into the store every few seconds, and at the same
time reads what others have learned. Until a workspace was read, and for what the store has lost, shipped bounds stand.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from govmiddleware.core.calibration import LAST_BUCKET, CalibrationStore, Learned, Ratios
from govmiddleware.core.call import Call, Settlement
from govmiddleware.core.estimate import family_of, input_bound
from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.usage import Usage
from govmiddleware.metrics import Metrics
from govmiddleware.services.settlement import Charge

CALIBRATION_SECONDS = 5.0
"""How often a worker merges and reads, and so how old what it applies may be."""

_MOST_MODELS = 200
"""Of a workspace: the first so many are learned. Only where `*` has a price can clients invent models."""
_LONGEST_MODEL = 128
_IDLE_SECONDS = 3600.0
"""After which a worker forgets a workspace; the store has what it learned."""
_TRIES = 3
"""Of a merge that other workers get ahead of; after them it is for the next round."""

Model = tuple[str, str]
"""Protocol and model, as the client names it."""

_Bucket = Annotated[int, msgspec.Meta(ge=0, le=LAST_BUCKET)]
_Weight = Annotated[float, msgspec.Meta(gt=0)]
_News = defaultdict[Model, Ratios]


@dataclass(slots=True)
class _Workspace:
    """What a worker knows of one.

    Attributes:
        used: when it was last asked for.
        news: observed since the last merge.
        models: what is learned of each model.
        families: the same of all models of a family together, by protocol and the family's pattern.
    """

    used: float
    news: _News = field(default_factory=lambda: defaultdict(Ratios))
    models: Mapping[Model, Learned] = field(default_factory=dict)
    families: Mapping[Model, Learned] = field(default_factory=dict)


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
        has_others = info.unknown_parts or info.input_tokens or info.reach.beside_tokens != Usage()
        if has_others or call.principal is None:
            return shipped
        call.shows_its_size = True
        workspace = self._workspace(call.principal.workspace)
        model = call.protocol.name, info.model
        if learned := workspace.models.get(model):
            return learned.bound(estimate, shipped=shipped, most=lambda: _most(info))
        # What a proxy adds to the prompts of one model it adds to its others'. But a family's newer models may make
        # more tokens of a text than its older ones, so that others only raise a bound.
        if learned := workspace.families.get(_family(model)):
            return max(shipped, learned.bound(estimate, shipped=shipped, most=lambda: _most(info)))
        return shipped

    def settled(self, call: Call, charge: Charge) -> None:
        """Learn from a call that ended, if the provider itself said what its input took."""
        usage, estimate = charge.usage, call.estimated_input_tokens
        if charge.settlement is not Settlement.EXACT or not usage.input_tokens or not estimate:
            return
        self._metrics.bounded(call, usage)
        has_searched = usage.web_searches or usage.file_searches
        if call.model is None or len(call.model) > _LONGEST_MODEL or not call.shows_its_size or has_searched:
            return
        workspace = self._workspace(call.require_principal().workspace)
        model = call.protocol.name, call.model
        if model in workspace.news or len(workspace.news) < _MOST_MODELS:
            workspace.news[model].observe(estimate, usage.input_tokens)
        if learned := workspace.models.get(model):
            self._metrics.calibrated(call, learned.ratio)

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
            ratios = {_model(field): _decoded(value) for field, value in stored.items()}
            for model, observed in news.items():
                if model in ratios or len(ratios) < _MOST_MODELS:
                    ratios.setdefault(model, Ratios()).learn(observed, self._coverage)
            changed = {_field(model): _encoded(ratios[model]) for model in news if model in ratios}
            seen = {field: stored.get(field) for field in changed}
            if not changed or await self._store.replace(name, seen, changed):
                break
        else:
            for model, observed in news.items():
                workspace.news[model] = Ratios.together([workspace.news[model], observed])
        families: dict[Model, list[Ratios]] = defaultdict(list)
        for model, each in ratios.items():
            families[_family(model)].append(each)
        workspace.models = self._learned(ratios)
        workspace.families = self._learned(
            {family: Ratios.together(several) for family, several in families.items()}
        )

    def _learned(self, ratios: Mapping[Model, Ratios]) -> dict[Model, Learned]:
        every = ((model, each.learned(self._coverage)) for model, each in ratios.items())
        return {model: learned for model, learned in every if learned is not None}

    def _workspace(self, name: str) -> _Workspace:
        found = self._workspaces.setdefault(name, _Workspace(0))
        found.used = self._clock()
        return found


def _most(info: RequestInfo) -> int:
    """No tokenizer makes more tokens than there are bytes."""
    in_bytes = sum(len(text.encode(errors="surrogatepass")) for text in info.texts)
    return info.overhead_tokens + in_bytes


def _family(model: Model) -> Model:
    protocol, name = model
    return protocol, family_of(name).pattern


def _field(model: Model) -> str:
    """Of the hash in the store. No protocol has a space in its name."""
    return " ".join(model)


def _model(field: str) -> Model:
    protocol, _, name = field.partition(" ")
    return protocol, name


def _encoded(ratios: Ratios) -> bytes:
    return msgspec.json.encode({bucket: round(weight, 3) for bucket, weight in ratios.weights.items()})


def _decoded(value: bytes) -> Ratios:
    """Begun anew where somebody else wrote it."""
    try:
        return Ratios(msgspec.json.decode(value, type=dict[_Bucket, _Weight]))
    except msgspec.MsgspecError:
        return Ratios()
