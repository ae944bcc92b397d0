"""Figures by stage and by sample, against counts by hand."""

import numpy as np
import pytest

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.output.environment import current_environment
from dynamic_exit.points.operating_point import Baseline, OperatingPoint, OperatingPoints
from dynamic_exit.records import Records
from dynamic_exit.records.stage_table import StageTable
from dynamic_exit.report.details import CONFIDENCE_BINS, choose_examples, fingerprint_test, sample_details

STAGES = StageTable(
    ("small", "final"), ("saver", "final"), np.array([-1, 0]), np.array([1.0, 0.0]), np.array([0, 10.0])
)
# of the saver and the backbone, by sample: the probability of class 0
SAVER = np.array([0.9, 0.95, 0.6, 0.1, 0.97, 0.55])
BACKBONE = np.array([0.9, 0.9, 0.2, 0.2, 0.1, 0.9])
LABELS = np.array([0, 0, 1, 1, 1, -1])
POINT = {"name": "point", "stages": [{"stage": "small", "threshold": 0.8}], "fuse": "none", "confidence": "top1"}


def records(labels=LABELS) -> Records:
    both = [np.stack([each, 1 - each], axis=1) for each in (SAVER, BACKBONE)]
    return Records.from_probabilities(labels, STAGES, both)


def operating_points(test: Records) -> OperatingPoints:
    drawn = {"accuracy": 1.0, "accuracy_drop": 0.0, "cost": 1.0, "cost_ratio": 0.1, "exit_rates": {}, "samples": 6}
    point = OperatingPoint.model_validate({**POINT, **drawn})
    return OperatingPoints(cost_unit="macs", baseline=Baseline(accuracy=1, cost=10), points=(point,))


def test_stages_are_counted_on_labelled_samples():
    """Samples 0, 1, 3 and 4 leave early, 4 wrong where the backbone is right; 2 goes on; 5 has no label."""
    test = records()
    found = sample_details(test, test, operating_points(test), 3, 4)
    small, final = found.answers[0].stages
    assert (small.stage, small.reached, small.left, small.correct, small.backbone_correct) == ("small", 5, 4, 3, 4)
    assert (final.stage, final.reached, final.left, final.correct, final.threshold) == ("final", 1, 1, 1, None)
    assert small.threshold == pytest.approx(0.8)
    assert sum(small.right) == 3 and sum(small.wrong) == 2 and len(small.right) == CONFIDENCE_BINS
    assert small.wrong[int(0.6 * CONFIDENCE_BINS)] == 1
    rates = found.answers[0].class_exit_rates
    assert rates == {"small": [1.0, pytest.approx(2 / 3), None], "final": [0.0, pytest.approx(1 / 3), None]}
    kinds = [(each.kind, each.sample, each.label, each.answer, each.stage) for each in found.examples]
    assert kinds == [
        ("early", 1, 0, 0, "small"), ("early", 3, 1, 1, "small"), ("early", 0, 0, 0, "small"),
        ("late", 2, 1, 1, "final"),
        ("lost", 4, 1, 0, "small"),
    ]  # fmt: skip
    assert [each.stage for each in found.reliability] == ["small", "final"]
    assert found.reliability[0].accuracy == pytest.approx(3 / 5)
    assert sum(found.reliability[0].counts) == 5
    assert found.reliability[0].confidence[0] is None


def test_the_front_is_measured_on_test_samples():
    test = records()
    found = sample_details(test, test, operating_points(test), 2, 0)
    costs = [each.cost_ratio for each in found.front]
    assert costs == sorted(costs) and costs[-1] <= 1.1
    assert found.examples == []


def test_without_labels_nothing_is_claimed():
    test = records(np.full(6, -1))
    assert sample_details(test, test, operating_points(test), 2, 4) == ([], [], [], [])


def test_examples_are_of_many_classes():
    """Though the saver is surest of class 0, one of class 1 comes second."""
    test = records(np.array([0, 0, 1, 1, 0, 0]))
    chosen = choose_examples(test, operating_points(test).points[0], 2)
    assert [(each.kind, each.sample) for each in chosen][:2] == [("early", 4), ("early", 3)]
    point = OperatingPoint(
        name="alone", accuracy=1, accuracy_drop=0, cost=10, cost_ratio=1, exit_rates={"final": 1}, samples=6
    )
    assert choose_examples(test, point, 2) == []


def test_every_sample_is_answered_once(ran):
    for point, row in zip(ran.result.metrics.answers, ran.result.metrics.rows[2:], strict=True):
        assert point.name == row.name
        assert sum(stage.left for stage in point.stages) == ran.result.metrics.samples["test"]
        for stage in point.stages:
            assert stage.left / ran.result.metrics.samples["test"] == pytest.approx(row.exit_rates[stage.stage])
        right = sum(stage.correct for stage in point.stages) / ran.result.metrics.samples["test"]
        assert right == pytest.approx(row.accuracy)


def test_other_samples_have_another_fingerprint():
    inputs, names = {"x": np.arange(40.0).reshape(20, 2)}, ["a", "b"]
    labels = np.arange(20) % 2
    first = fingerprint_test(inputs, labels, names)
    assert first == fingerprint_test({"y": inputs["x"].copy()}, labels.copy(), ["a", "b"])
    assert first.labels != fingerprint_test(inputs, labels[::-1], names).labels
    assert first.labels != fingerprint_test(inputs, labels, ["a", "c"]).labels
    other = fingerprint_test({"x": inputs["x"][::-1]}, labels, names)
    assert other.labels == first.labels and other.inputs != first.inputs


def test_the_environment_names_what_computes():
    found = current_environment()
    assert {"dynamic_exit", "torch", "onnxruntime"} <= found.packages.keys()
    assert found.cores >= 1 and found.python.startswith("3.")


def test_exits_are_offered_as_they_are_evaluated():
    test = records(np.array([0, 0, 1, 1, 1, 0]))
    found = evaluate(test, operating_points(test).points[0].configuration)
    assert found.exit_index.tolist() == [0, 0, 1, 0, 0, 1]
