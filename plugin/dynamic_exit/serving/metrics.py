"""Figures of a server for Prometheus."""

import functools
from collections.abc import Callable, Iterator

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .controller import LoadController
from .model import Answered, ServedFolder

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
#: Figures of batches: name, description, and bounds of histograms; every server of a model counts them.
ROWS = ("dynamic_exit_server_rows", "Rows by the stage that answered")
BATCH_ROWS = ("dynamic_exit_server_batch_rows", "Rows answered in one call", _COUNTS)
BATCH_SECONDS = ("dynamic_exit_server_batch_seconds", "Seconds of one call", _SECONDS)


class ControllerCollector(Collector):
    """Shows what a controller knows and has decided."""

    def __init__(self, controller: LoadController):
        self._controller = controller

    def collect(self) -> Iterator[Metric]:
        """Yield its figures."""
        known, prefix = self._controller, "dynamic_exit_server"
        yield GaugeMetricFamily(f"{prefix}_goal_seconds", "Seconds that 99 % of requests may take", value=known.goal)
        yield GaugeMetricFamily(f"{prefix}_arriving_rows", "Rows a second that arrived of late", value=known.rate)
        what = "Seconds of batches over those that the run measured"
        yield GaugeMetricFamily(f"{prefix}_slowness", what, value=known.slowness)
        what = "Rows a second up to which an operating point keeps the goal"
        carried = GaugeMetricFamily(f"{prefix}_carried_rows", what, labels=["operating_point"])
        for gear in known.gears:
            carried.add_metric([gear.point], gear.rows_per_second)
        yield carried
        what = "Choices of an operating point by load, by what asked for it"
        shifts = CounterMetricFamily(f"{prefix}_shifts", what, labels=["operating_point", "reason"])
        for (point, reason), count in known.shifts.copy().items():
            shifts.add_metric([point, reason], count)
        yield shifts


class ServingMetrics:
    """Counts requests, rows and batches of one model.

    Args:
        model: The model.
        waiting: Returns the number of rows that wait.
        controller: What chooses operating points by load; None if nothing does.

    Attributes:
        registry: What ``/metrics`` shows.
        in_flight: Requests that are read, wait or are answered.
    """

    def __init__(self, model: ServedFolder, waiting: Callable[[], int], controller: LoadController | None = None):
        self.registry = registry = CollectorRegistry()
        self._model = model
        self._requests = Counter(
            "dynamic_exit_server_requests",
            "Requests by status of HTTP; 499: the client hung up",
            ["endpoint", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "dynamic_exit_server_request_seconds",
            "Seconds from the arrival of a request to its answer",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Counter(*ROWS, ["operating_point", "stage"], registry=registry)
        self._batch_rows, self._batch_seconds = (
            Histogram(name, description, buckets=bounds, registry=registry)
            for name, description, bounds in (BATCH_ROWS, BATCH_SECONDS)
        )
        self.in_flight = Gauge(
            "dynamic_exit_server_requests_in_flight", "Requests that are read, wait or are answered", registry=registry
        )
        Gauge("dynamic_exit_server_rows_waiting", "Rows that wait", registry=registry).set_function(waiting)
        point = Gauge(
            "dynamic_exit_server_operating_point", "1 for the current one", ["operating_point"], registry=registry
        )
        for name in model.shown_points:
            point.labels(name).set_function(functools.partial(self._is_at, name))
        if controller is not None:
            registry.register(ControllerCollector(controller))
        prometheus_client.ProcessCollector(registry=registry)
        if model.monitor is not None:
            from ..monitoring.prometheus import MonitorCollector

            registry.register(MonitorCollector(model.monitor, model.name))

    def _is_at(self, point: str) -> float:
        return float(self._model.point_in_use == point)

    def count_request(self, endpoint: str, code: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(endpoint, str(code)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def count_batch(self, answered: Answered, seconds: float) -> None:
        """Count a batch that was answered."""
        self._batch_rows.observe(len(answered.exit_index))
        self._batch_seconds.observe(seconds)
        for stage, count in self._model.count_stages(answered).items():
            self._rows.labels(answered.point, stage).inc(count)
