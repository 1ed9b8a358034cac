"""What ``/metrics`` shows, in Prometheus' text form: read from the parts' own counters when it is asked for.

Nothing is counted twice and nothing costs anything between two scrapes. Names and meanings stand in ``METRICS``,
which is also what the documentation is checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from schedule_zero.ops.histogram import Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

# (labels, value) pairs of one metric; for a histogram the value is the histogram.
Sample = tuple[tuple[str, ...], float | Histogram]


class Family:
    """One metric: its name without the prefix, kind, meaning, label names and where its samples come from."""

    def __init__(
        self, kind: str, name: str, meaning: str, labels: tuple[str, ...], samples: Callable[[], Iterable[Sample]]
    ) -> None:
        self.kind = kind
        self.name = f"schedulezero_{name}"
        self.meaning = meaning
        self.labels = labels
        self.samples = samples


def one(value: Callable[[], float]) -> Callable[[], list[Sample]]:
    """The samples of a metric without labels."""
    return lambda: [((), value())]


class Metrics:
    """The families of one server, rendered on demand."""

    def __init__(self, families: list[Family]) -> None:
        self.families = families
        self._registry: CollectorRegistry | None = None

    def render(self) -> tuple[str, bytes]:
        """Content type and body of ``/metrics``."""
        from prometheus_client import CollectorRegistry  # 15 MB that a server without scrapes can do without
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(self)
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client: each family with its present samples."""
        from prometheus_client import core

        kinds = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        for family in self.families:
            metric = kinds[family.kind](family.name, family.meaning, labels=family.labels)
            for labels, value in family.samples():
                if isinstance(value, Histogram):
                    metric.add_metric(labels, value.cumulative(), value.sum_s)
                else:
                    metric.add_metric(labels, value)
            yield metric
