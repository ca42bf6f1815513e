"""Counters, gauges and histograms that cost a request next to nothing: plain numbers, for which prometheus_client's
registry asks when it is scraped.

Its own kinds take a lock for each number, and in multiprocess mode write each change to a file. Here numbers change
without a lock, on the event loop's thread, and `share` writes those that have changed to the same files.
"""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import ClassVar, Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that turns the multiprocess mode on; prometheus_client reads it when it is imported."""

Labels = tuple[str, ...]


class Number:
    """One series of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self, value: float = 0) -> None:
        self.value = value

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = value

    def numbers(self) -> Sequence[float]:
        return (self.value,)


class Distribution:
    """One series of a histogram: the sum of what was observed, and how much of it fell into each bucket alone.

    Args:
        bounds: the largest value of each bucket; the last is infinite.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float], total: float = 0, *counts: float) -> None:
        self._bounds = bounds
        self.total = total
        self.counts = list(counts) or [0] * len(bounds)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def numbers(self) -> Sequence[float]:
        return (self.total, *self.counts)


class _Numbers(Protocol):
    def numbers(self) -> Sequence[float]: ...


class _File(Protocol):
    """A number that prometheus_client keeps for several processes to see, in one of its files."""

    def get(self) -> float: ...

    def set(self, value: float) -> None: ...


_Series = TypeVar("_Series", bound=_Numbers)


class _ByLabels(dict[Labels, _Series]):
    """A metric's series by the values of its labels; made when they are first asked for."""

    def __init__(self, make: Callable[[Labels], _Series]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, labels: Labels) -> _Series:
        made = self[labels] = self._make(labels)
        return made


class Kind(Collector, Generic[_Series]):
    """One metric, with a series for each combination of its labels' values; where it has no labels, with one.

    Args:
        name: without the `_total` of counters.
        multiprocess_mode: how a gauge's values of several processes become one, as in prometheus_client.

    Attributes:
        series: by the values of the labels. Who has no call to spare for `labels` looks here.
    """

    type: ClassVar[str]

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        registry: CollectorRegistry,
        multiprocess_mode: str = "",
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labelnames = tuple(labelnames)
        self._mode = multiprocess_mode
        self.series = _ByLabels(self._new)
        self._files: dict[Labels, Sequence[_File]] = {}
        """Of each series, where `share` writes its numbers to."""
        if not labelnames:
            self.labels()
        registry.register(self)

    def labels(self, *labels: str) -> _Series:
        """The series of these values."""
        return self.series[labels]

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def share(self) -> None:
        """Write what has changed since the last time to the files that several processes share."""
        for labels, files in self._files.items():
            for file, number in zip(files, self.series[labels].numbers(), strict=True):
                if file.get() != number:
                    file.set(number)

    def _new(self, labels: Labels) -> _Series:
        """In multiprocess mode it goes on with what is in its file: a process may have the name of a dead one."""
        if len(labels) != len(self._labelnames):
            raise ValueError(f"{self._name} has labels {self._labelnames}, got {labels}")
        if DIRECTORY not in os.environ:
            return self._made()
        files: Sequence[_File] = [
            values.ValueClass(
                self.type,
                self._name,
                self._name + suffix,
                (*self._labelnames, *le),
                (*labels, *le.values()),
                self._documentation,
                multiprocess_mode=self._mode,
            )
            for suffix, le in self._samples()
        ]
        self._files[labels] = files
        return self._made(*(file.get() for file in files))

    def _all(self) -> Iterable[tuple[Labels, _Series]]:
        return list(self.series.items())  # a scrape may run in a thread

    @abstractmethod
    def _made(self, *numbers: float) -> _Series: ...

    @abstractmethod
    def _samples(self) -> Iterable[tuple[str, dict[str, str]]]:
        """The suffix and the further label of each of a series' numbers."""


class _Single(Kind[Number]):
    """One number a series."""

    family: ClassVar[type[CounterMetricFamily | GaugeMetricFamily]]
    suffix: ClassVar[str]

    def inc(self, amount: float = 1) -> None:
        self.labels().value += amount

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        family = self.family(self._name, self._documentation, labels=self._labelnames)
        for labels, series in self._all():
            family.add_metric(labels, series.value)
        return [family]

    def _made(self, *numbers: float) -> Number:
        return Number(*numbers)

    def _samples(self) -> Iterable[tuple[str, dict[str, str]]]:
        return [(self.suffix, {})]


class Counter(_Single):
    """A number that only grows."""

    type = "counter"
    family, suffix = CounterMetricFamily, "_total"


class Gauge(_Single):
    """A number that is what it is set to."""

    type = "gauge"
    family, suffix = GaugeMetricFamily, ""

    def set(self, value: float) -> None:
        self.labels().value = value


class Histogram(Kind[Distribution]):
    """How many of the values that were observed lie in each bucket."""

    type = "histogram"

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._bounds = (*buckets, math.inf)
        self._texts = [floatToGoString(bound) for bound in self._bounds]  # type: ignore[no-untyped-call]
        super().__init__(name, documentation, labelnames, registry=registry)

    def observe(self, value: float) -> None:
        self.labels().observe(value)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)
        for labels, series in self._all():
            buckets = zip(self._texts, accumulate(series.counts), strict=True)
            family.add_metric(labels, list(buckets), series.total)
        return [family]

    def _made(self, *numbers: float) -> Distribution:
        return Distribution(self._bounds, *numbers)

    def _samples(self) -> Iterable[tuple[str, dict[str, str]]]:
        return [("_sum", {}), *(("_bucket", {"le": text}) for text in self._texts)]
