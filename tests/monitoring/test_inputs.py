"""A monitor that watches inputs beside answers."""

import json
import logging

import numpy as np
import pytest
from instances import savers

from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.drift import read_inputs
from dynamic_exit.errors import MonitorError
from dynamic_exit.monitoring import Monitor, PointReference, Reference


def draw(count, seed, scale=1.0):
    return {"x": scale * np.random.default_rng(seed).normal(size=(count, 1, 4, 8)).astype(np.float32)}


@pytest.fixture(scope="module")
def answered_alone():
    rows = savers(0, 400, count=2)
    return Reference(
        stages=rows.stages, points=(PointReference.of("off", rows, Configuration((), Evidence("none")), 10),)
    )


@pytest.fixture(scope="module")
def reference(answered_alone):
    return answered_alone.model_copy(update={"inputs": read_inputs(draw(400, 0), {})})


def observe(monitor, inputs):
    """Answers of another point, of which nothing is known but their inputs."""
    count = 0 if inputs is None else len(inputs["x"])
    monitor.observe("adapted", np.zeros(count, int), np.ones(count), None, inputs)


def test_inputs_are_watched_at_every_point_and_an_alarm_says_what_moved(reference):
    monitor = Monitor(reference)
    assert monitor.input_names == ("x",) and monitor.input_due
    observe(monitor, draw(3000, 1))
    assert not monitor.status().moved and {*monitor.status().evidence} > {"exits", "inputs"}
    observe(monitor, draw(3000, 2, scale=0.8))
    (alarm,) = monitor.status().alarms
    assert (
        alarm.kind == "inputs" and alarm.request == 6000 and alarm.after == pytest.approx(0.8 * alarm.before, rel=0.1)
    )
    expected = f"the spread of input 'x' is {alarm.after:.4g}, {alarm.before:.4g} on test samples"
    assert alarm.message == f"live traffic has moved, over about the last {alarm.answers} answers: {expected}"


def test_an_alarm_that_goes_on_is_raised_once(reference, caplog, tmp_path):
    heard = []
    monitor = Monitor(reference, on_alarm=heard.append, recovery=5000)
    with caplog.at_level(logging.WARNING, logger="dynamic_exit"):
        for seed in range(8):
            observe(monitor, draw(1000, (3, seed), scale=0.7))
        monitor.save(tmp_path / "state.json")
        again = Monitor(reference, on_alarm=heard.append)
        again.load(tmp_path / "state.json")
        observe(again, draw(1000, 4, scale=0.7))
    assert len(heard) == len(again.status().alarms) == 1 and again.status().moved
    assert caplog.text.count("live traffic has moved") == 1


def test_inputs_may_be_left_out(reference, answered_alone, tmp_path):
    alone = Monitor(reference, inputs=False)
    observe(alone, draw(3000, 2, scale=0.5))
    status = alone.status()
    assert alone.input_names == () and not alone.input_due and not status.moved and "inputs" not in status.evidence
    assert Monitor(answered_alone).input_names == ()
    with pytest.raises(MonitorError, match="the reference holds no statistics of inputs, which are to be watched; run"):
        Monitor(answered_alone, inputs=True)
    # what they spend must have been set aside from the start
    alone.save(tmp_path / "state.json")
    with pytest.raises(MonitorError, match="inputs were not watched; resume it with inputs=False"):
        Monitor(reference).load(tmp_path / "state.json")
    reference.write(tmp_path / "reference.json")
    assert Monitor.resume(tmp_path, tmp_path / "state.json").input_names == ()
    watched = Monitor(reference)
    watched.save(tmp_path / "state.json")
    assert Monitor.resume(tmp_path, tmp_path / "state.json").input_names == ("x",)
    assert Monitor.resume(tmp_path, tmp_path / "state.json", inputs=False).input_names == ()


def test_a_state_goes_on_and_one_that_is_not_whole_is_refused(reference, tmp_path):
    path, first = tmp_path / "state.json", Monitor(reference)
    observe(first, draw(100, 5))
    first.save(path)
    again = Monitor(Reference.model_validate_json(reference.model_dump_json()))
    again.load(path)
    for monitor in (first, again):
        observe(monitor, draw(2000, 6, scale=0.97))
    assert first.status().evidence == again.status().evidence and first.status().evidence["inputs"] > 0
    state = json.loads(path.read_text())
    for change in ({"waiting": [[0.0]]}, {"left_out": -1}, {"watches": []}):
        path.write_text(json.dumps({**state, "inputs": {**state["inputs"], **change}}))
        with pytest.raises(MonitorError, match="is not whole"):
            Monitor(reference).load(path)


def test_references_of_earlier_versions_are_read_and_broken_ones_are_refused(reference, answered_alone, tmp_path):
    path = tmp_path / "reference.json"
    answered_alone.write(path)
    values = json.loads(path.read_text())
    assert values.pop("inputs") == []
    path.write_text(json.dumps(values))
    assert Reference.read(path) == answered_alone
    reference.write(path)
    assert Reference.read(path) == reference
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "inputs": values["inputs"] * 2}))
    with pytest.raises(MonitorError, match="is no whole reference: .*inputs must have different names"):
        Reference.read(path)
