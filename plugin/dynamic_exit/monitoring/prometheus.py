"""Figures of a monitor for Prometheus; needs the extra `monitoring`."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .monitor import Monitor


class MonitorCollector(Collector):
    """Collects what a monitor knows whenever Prometheus asks: ``prometheus_client.REGISTRY.register(collector)``.

    Args:
        monitor: The monitor.
        model: Value of the label ``model``, where one process serves several.
    """

    def __init__(self, monitor: Monitor, model: str = ""):
        self._monitor, self._model = monitor, model

    def collect(self) -> Iterator[Metric]:
        """Yield counters of answers and alarms, and gauges of exit rates, evidence and state."""
        status = self._monitor.status()
        counters = {
            "answers": ("Answers observed", status.requests),
            "invalid_answers": ("Answers whose confidence is not finite", status.invalid),
            "checked_answers": ("Answers compared with the backbone's", status.checked),
            "labelled_answers": ("Answers compared with labels", status.labelled),
        }
        if status.adaptation is not None:
            counters["adaptations"] = ("Changes of re-tuned thresholds", len(status.adaptation.changes))
        for name, (text, value) in counters.items():
            family = CounterMetricFamily(f"dynamic_exit_{name}", text, labels=["model"])
            family.add_metric([self._model], value)
            yield family
        alarms = CounterMetricFamily("dynamic_exit_alarms", "Alarms by what has moved", labels=["model", "kind"])
        evidence = GaugeMetricFamily(
            "dynamic_exit_evidence", "Evidence that traffic has moved; 1 raises an alarm", labels=["model", "kind"]
        )
        for kind, log_share in status.evidence.items():
            evidence.add_metric([self._model, kind], log_share)
            alarms.add_metric([self._model, kind], sum(alarm.kind == kind for alarm in status.alarms))
        yield alarms
        yield evidence
        rates = GaugeMetricFamily("dynamic_exit_exit_rate", "Share of recent answers", labels=["model", "stage"])
        for stage, rate in status.exit_rates.items():
            rates.add_metric([self._model, stage], rate)
        yield rates
        states = {
            "moved": ("Whether an alarm is on", status.moved),
            "fallen_back": ("Whether the model is at its fallback", status.fallback is not None),
        }
        if status.adaptation is not None:
            states["adapted"] = ("Whether re-tuned thresholds answer", status.adaptation.thresholds is not None)
        for name, (text, on) in states.items():
            gauge = GaugeMetricFamily(f"dynamic_exit_{name}", text, labels=["model"])
            gauge.add_metric([self._model], float(on))
            yield gauge
