"""A monitor on real models: the tiny recipe's file in onnxruntime, with and without torch."""

import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch

from dynamic_exit import DynamicExitModelForImageClassification, load_runner
from dynamic_exit.errors import MonitorError
from dynamic_exit.monitoring import Adaptation, Monitor, MonitoredModel, Reference


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


def test_a_run_writes_statistics_of_the_inputs_of_its_test_samples(ran_float):
    reference = Reference.read(ran_float.folder / "reference.json")
    (known,) = reference.inputs
    assert (known.name,) == load_runner(ran_float.folder).input_names and known.kind == "signal"
    assert {sum(each.counts) for each in known.statistics} == {reference.points[0].samples}


@pytest.mark.parametrize("named", ["by place", "by name", "pixel_values"])
def test_inputs_of_calls_are_watched_however_they_are_given(ran_float, samples, named):
    model = DynamicExitModelForImageClassification.from_pretrained(ran_float.folder)
    monitor = Monitor.read(ran_float.folder)
    watched = MonitoredModel(model, monitor, check_share=0)
    for start in range(0, 2560, 64):
        batch = torch.from_numpy(np.flip(samples[start : start + 64], axis=-1) ** 2 * np.float32(0.1))
        if named == "by place":
            watched(batch)
        else:
            watched(**{watched.input_names[0] if named == "by name" else named: batch})
    alarms = [each for each in monitor.status().alarms if each.kind == "inputs"]
    assert len(alarms) == 1 and f"of input '{watched.input_names[0]}' is" in alarms[0].message


def test_calls_without_what_is_watched_are_answered_and_said_once(ran, samples, caplog):
    class Renamed:
        """Takes its input under another name, as a wrapper of a user's own may."""

        input_names = ("pictures", "sizes")

        def __init__(self):
            self.model = load_runner(ran.folder)
            self.operating_point, self.stages = self.model.operating_point, self.model.stages

        def __call__(self, pictures, sizes=None):
            return self.model(pictures)

    watched = MonitoredModel(Renamed(), Monitor.read(ran.folder), check_share=0)
    with caplog.at_level("WARNING", logger="dynamic_exit"):
        for _ in range(3):
            assert len(watched(samples[:200]).exit_index) == 200
    name = watched.monitor.input_names[0]
    assert caplog.text.count(f"inputs are not watched: '{name}' is not among what the model is called with") == 1
    assert watched.monitor.status().requests == 600


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


@pytest.fixture(scope="module")
def adapted(ran_float, samples):
    """A model that faded images were shown to until its thresholds were re-tuned, and what its answers were from."""
    monitor = Monitor.read(ran_float.folder, adaptation=Adaptation(0.8, samples=100))
    watched, seen = MonitoredModel(load_runner(ran_float.folder), monitor, check_share=1), []
    for start in range(0, 4000, 50):
        seen.append(watched.in_use[0])
        watched(samples[start : start + 50] * np.float32(0.3))
    return watched, seen


def test_the_backbone_answers_until_thresholds_are_re_tuned_and_they_keep_the_promise(adapted, samples):
    watched, seen = adapted
    assert list(dict.fromkeys(seen)) == [seen[0], "backbone", "adapted"] and watched.operating_point.name == "backbone"
    fresh = tiny.draw(2000, 12)[0] * np.float32(0.3)
    of_backbone = watched.model(fresh).logits.argmax(axis=1)
    answers = watched.model(fresh, thresholds=watched.in_use[1])
    assert np.mean(answers.logits.argmax(axis=1) == of_backbone) >= 0.8
    assert np.mean(answers.exit_index < len(watched.stages)) > 0.2, "samples leave early again"
    status = watched.monitor.status()
    assert status.adaptation.thresholds and status.adaptation.changes and status.fallback == "backbone"
    # nothing but the thresholds has changed
    assert np.array_equal(watched(fresh[:40]).logits, answers.logits[:40])


def test_re_tuned_thresholds_answer_after_a_restart_until_the_model_is_switched_by_hand(adapted, ran_float, tmp_path):
    watched, _ = adapted
    watched.monitor.save(tmp_path / "state.json")
    monitor = Monitor.resume(ran_float.folder, tmp_path / "state.json")
    again = MonitoredModel(load_runner(ran_float.folder), monitor, check_share=0.5)
    name, thresholds = again.in_use
    assert name == "adapted" and np.array_equal(thresholds, watched.in_use[1])
    assert monitor.status() == watched.monitor.status()
    assert monitor.adaptation.undo() and monitor.adaptation.changes == watched.monitor.adaptation.changes + 1
    again.set_operating_point("backbone")
    assert again.in_use == ("backbone", None) and not monitor.status().moved and not monitor.adaptation.on
    # a monitor that re-tunes nothing takes the state too
    plain = MonitoredModel(
        load_runner(ran_float.folder), Monitor.resume(ran_float.folder, tmp_path / "state.json", adaptation=None)
    )
    assert plain.in_use == ("backbone", None)


def test_stages_are_asked_for_their_own_answers(adapted, ran_float, samples):
    """What the adaptation is shown of a call is what each stage answers to it."""
    watched, _ = adapted
    shown = []
    watched.monitor.adaptation.observe, kept = lambda *each: shown.append(each), watched.monitor.adaptation.observe
    try:
        watched(samples[:60])
    finally:
        watched.monitor.adaptation.observe = kept
    (classes, confidence, backbone) = shown[0]
    assert np.array_equal(backbone, watched.model(samples[:60]).logits.argmax(axis=1))
    chain = np.float32([0.4] * len(watched.stages))
    answers = watched.model(samples[:60], thresholds=np.where(np.isinf(watched.in_use[1]), np.inf, chain))
    leaves = np.column_stack([confidence > 0.4, np.ones(60, bool)]).argmax(axis=1)
    assert np.array_equal(classes[np.arange(60), leaves], answers.logits.argmax(axis=1))


def test_adapting_needs_the_backbone_and_calls_that_are_checked(ran):
    with pytest.raises(MonitorError, match="with an adaptation the fallback is the backbone; leave out the fallback"):
        Monitor.read(ran.folder, adaptation=Adaptation(), fallback=ran.result.points.names[0])
    with pytest.raises(MonitorError, match="re-tuned on calls that are checked; give a check_share, such as 0.01"):
        MonitoredModel(load_runner(ran.folder), Monitor.read(ran.folder, adaptation=Adaptation()), check_share=0)
