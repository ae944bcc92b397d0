import numpy as np
import prometheus_client

from dynamic_exit.monitoring import Monitor
from dynamic_exit.monitoring.prometheus import MonitorCollector


def test_prometheus_reads_what_the_monitor_knows(ran):
    monitor = Monitor.read(ran.folder)
    last = len(monitor.reference.stages) - 1
    monitor.observe("backbone", np.full(640, last), np.full(640, 0.1, np.float32))
    registry = prometheus_client.CollectorRegistry()
    registry.register(MonitorCollector(monitor, "tiny"))
    value = registry.get_sample_value
    assert value("dynamic_exit_answers_total", {"model": "tiny"}) == 640
    assert value("dynamic_exit_alarms_total", {"model": "tiny", "kind": "exits"}) == len(monitor.status().alarms) >= 1
    assert value("dynamic_exit_moved", {"model": "tiny"}) == 1
    assert value("dynamic_exit_fallen_back", {"model": "tiny"}) == 0
    assert value("dynamic_exit_evidence", {"model": "tiny", "kind": "accuracy"}) == 0
    assert value("dynamic_exit_adapted", {"model": "tiny"}) is None, "nothing is re-tuned"
