"""A monitor on real models: the tiny recipe's file in onnxruntime, with and without torch."""

import subprocess
import sys

import numpy as np
import pytest
import tiny

from dynamic_exit import DynamicExitModelForImageClassification, load_runner
from dynamic_exit.errors import MonitorError
from dynamic_exit.monitoring import Monitor, MonitoredModel, Reference


@pytest.fixture(scope="module")
def samples():
    return tiny.draw(4000, 11)[0]


@pytest.mark.parametrize("load", [load_runner, DynamicExitModelForImageClassification.from_pretrained])
def test_a_served_model_answers_as_before_and_is_watched(ran_float, samples, load):
    model, monitor = load(ran_float.folder), Monitor.read(ran_float.folder, level=0.001)
    watched = MonitoredModel(model, monitor, check_share=0.5)
    for start in range(0, 960, 96):
        batch = samples[start : start + 96]
        assert np.array_equal(np.asarray(watched(batch).logits), np.asarray(model(batch).logits))
    watched(samples[:5], thresholds=[2.0] * len(watched.stages))  # a caller's own: not watched
    status = monitor.status()
    assert (status.requests, status.moved) == (960, False) and 96 < status.checked < 960
    assert sum(status.exit_rates.values()) == pytest.approx(1)
    # the same figures as those that the run reported, up to chance
    point = next(p for p in ran_float.result.points.points if p.name == model.operating_point.name)
    assert status.exit_rates["final"] == pytest.approx(point.exit_rates["final"], abs=0.15)


def test_faded_images_are_noticed_and_the_model_falls_back(ran_float, samples):
    model = load_runner(ran_float.folder)
    monitor = Monitor.read(ran_float.folder, fallback="backbone")
    watched = MonitoredModel(model, monitor, check_share=0)
    for start in range(0, 4000, 50):
        watched(samples[start : start + 50] * np.float32(0.3))
        if monitor.status().moved:
            break
    assert monitor.status().moved and model.operating_point.name == "backbone"


def test_the_reference_of_a_run_is_of_its_test_samples(ran):
    reference = Reference.read(ran.folder / "reference.json")
    assert [*reference.stages[:-1]] == [*load_runner(ran.folder).stages]
    for point in ran.result.points.points:
        found = reference.point(point.name)
        shares = dict(zip(reference.stages, np.array(found.exits) / found.samples, strict=True))
        assert {name: shares[name] for name in point.exit_rates} == pytest.approx(point.exit_rates)
        assert found.correct / found.labelled == pytest.approx(point.accuracy)
    assert reference.point("backbone").exits[-1] == reference.point("backbone").samples


def test_a_monitor_of_another_model_is_refused(ran, ran_segments):
    with pytest.raises(MonitorError, match="the monitor is for the stages .*; read the reference of its own folder"):
        MonitoredModel(load_runner(ran.folder), Monitor.read(ran_segments.folder))
    with pytest.raises(MonitorError, match="check_share must be in 0..1, such as 0.01; got 2"):
        MonitoredModel(load_runner(ran.folder), Monitor.read(ran.folder), check_share=2)


def test_monitors_need_no_torch(ran):
    code = (
        "import sys; from dynamic_exit.monitoring import Monitor; "
        f"Monitor.read({str(ran.folder)!r}).status(); print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
