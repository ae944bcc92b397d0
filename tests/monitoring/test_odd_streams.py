"""Clocks that jump, labels that never come, a stream of one class: a monitor goes by answers alone."""

import time

import numpy as np
import pytest
from instances import savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.monitoring import Monitor, PointReference, Reference

RECORDS = savers(0, 3000, count=2)
CHAIN = Configuration(tuple((stage, np.float32(0.5)) for stage in RECORDS.stages[:-1]), Evidence("none"))


@pytest.fixture
def monitor():
    points = (PointReference.of("bold", RECORDS.take(slice(0, 1000)), CHAIN, 10),)
    return Monitor(Reference(stages=RECORDS.stages, points=points), recovery=1000)


def stream(count, seed, keep=lambda classes: np.ones(len(classes), bool)):
    found = evaluate(RECORDS.take(slice(1000, 3000)), CHAIN)
    rows = np.random.default_rng(seed).choice(np.flatnonzero(keep(found.prediction)), size=count)
    return found.exit_index[rows], found.confidence[rows], found.prediction[rows]


def test_a_clock_that_jumps_changes_nothing_but_what_the_alarm_says_of_time(monitor, monkeypatch):
    times = iter([4e9, -5.0, 0.0, 1e12])
    monkeypatch.setattr(time, "time", lambda: next(times))
    last = len(RECORDS.stages) - 1
    monitor.observe("bold", np.full(2000, last), np.full(2000, 0.1, np.float32), np.arange(2000) % 10)
    monitor.observe("bold", *stream(2000, 1))
    status = monitor.status()
    assert (
        status.alarms
        and not status.moved
        and [each.request for each in status.alarms] == sorted(each.request for each in status.alarms)
    )
    assert status.alarms[0].time == 4e9


def test_labels_that_never_come_leave_the_rest_watched(monitor):
    monitor.observe_labels("bold", np.zeros(0, int), np.zeros(0, int))
    monitor.observe_agreement("bold", np.zeros(0, int), np.zeros(0, int))
    monitor.observe("bold", *stream(3000, 2))
    status = monitor.status()
    assert (status.labelled, status.checked, status.moved) == (0, 0, False)
    assert status.evidence["accuracy"] == status.evidence["agreement"] == 0
    monitor.observe("bold", np.full(1000, len(RECORDS.stages) - 1), np.full(1000, 0.1, np.float32))
    assert monitor.status().moved


def test_a_stream_of_one_class_is_noticed_as_such(monitor):
    monitor.observe("bold", *stream(2000, 3, keep=lambda classes: classes == 4))
    (alarm,) = [each for each in monitor.status().alarms if each.kind == "classes"]
    assert "class 4 is 100.0% of answers" in alarm.message and alarm.after == 1
