"""Where a saver alone is better, nobody gets to the end of a chain, or one class pays for all, a run says so."""

import numpy as np
import pytest

from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.pipeline.verdict import better_alone, class_losses, unreached
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.operating_point import OperatingPoint
from dynamic_exit.records import Records


def records(correct, costs, kinds=None):
    """Records of stages that are right on the first samples of ten, or on those that are listed."""
    right = np.zeros((len(correct), 10), bool)
    for row, samples in zip(right, correct, strict=True):
        row[range(samples) if isinstance(samples, int) else samples] = True
    first = np.where(right, 1, 0)
    names = tuple(f"stage{i}" for i in range(len(correct) - 1))
    return Records(
        labels=np.ones(10, np.int64),
        stages=(*names, "final"),
        kinds=(*(kinds or ["saver"] * len(names)), "final"),
        positions=np.array([*[-1 if kind == "saver" else 0 for kind in kinds or ["saver"] * len(names)], 3]),
        topk_classes=np.stack([first, 1 - first], axis=2).astype(np.int32),
        topk_probabilities=np.tile(np.float32([0.9, 0.1]), (len(correct), 10, 1)),
        own_cost=np.array([*costs, 0.0]),
        prefix_cost=np.array([*[0.0 if kind == "saver" else 0.2 for kind in kinds or ["saver"] * len(names)], 50.0]),
        cost_unit="macs",
    )


def test_the_saver_that_is_right_most_often_is_named_with_its_paired_difference():
    calibration = records([7, 9, 6], [1.0, 2.0])
    # on test samples stage1 gains two and loses one of ten: 1 point in ten, spread sqrt(0.3 - 0.01)
    test = records([7, [0, 1, 2, 3, 4, 6, 7], 6], [1.0, 2.0])
    assert better_alone(calibration, test) == (
        "stage1 alone is 10.0 ± 17.0 points better than the backbone at 0.04 of its cost, on 10 test samples: deploy "
        "it alone"
    )


def test_a_saver_that_is_as_good_is_named_too():
    both = records([6, 6], [1.5])
    assert better_alone(both, both) == (
        "stage0 alone is right as often as the backbone at 0.03 of its cost, on 10 test samples: deploy it alone"
    )


@pytest.mark.parametrize(
    ("calibration", "test", "costs", "kinds"),
    [
        pytest.param([5, 6], [9, 6], [1.0], None, id="worse on calibration samples"),
        pytest.param([9, 6], [5, 6], [1.0], None, id="test samples contradict"),
        pytest.param([9, 6], [9, 6], [50.0], None, id="no cheaper than the backbone"),
        pytest.param([9, 6], [9, 6], [1.0], ["exit"], id="an exit needs the backbone"),
    ],
)
def test_no_verdict(calibration, test, costs, kinds):
    assert better_alone(records(calibration, costs, kinds), records(test, costs, kinds)) is None


def point(**rates):
    return OperatingPoint(name="p", accuracy=0.9, accuracy_drop=0, cost=1, cost_ratio=0.1, exit_rates=rates, samples=40)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        (
            [point(small=0.9, exit=0.1, final=0.0), point(small=1.0, final=0.0)],
            "at every operating point all 40 test samples leave at 'exit' at the latest: what is behind it (final) is "
            "in the file for inputs that are less sure, and for the point 'backbone'; "
            "`export.drop_unreached: true` leaves it out where no calibration sample gets there either",
        ),
        (
            [point(small=1.0, exit=0.0, final=0.0)],
            "at every operating point all 40 test samples leave at 'small' at the latest: what is behind it (exit, "
            "final) is in the file for inputs that are less sure, and for the point 'backbone'; "
            "`export.drop_unreached: true` leaves it out where no calibration sample gets there either",
        ),
        ([point(small=1.0, exit=0.0, final=0.0), point(small=0.975, final=0.025)], None),
        ([point(final=1.0)], None),
        ([], None),
    ],
    ids=["the final", "an exit too", "one sample gets there", "the backbone alone", "no points"],
)
def test_stages_that_nobody_gets_to_are_told(points, sentence):
    assert unreached(points, ["small", "exit", "final"]) == sentence


def rare(saver_finds):
    """A saver that is sure of everything, of 970 samples of one class and 30 of another: it finds some of the rare."""
    labels = np.repeat([0, 1], [970, 30])
    saver = np.where(np.arange(1000) < 1000 - saver_finds, 0, 1)
    first = np.stack([saver, labels])
    return Records(
        labels=labels,
        stages=("saver", "final"),
        kinds=("saver", "final"),
        positions=np.array([-1, 1]),
        topk_classes=np.stack([first, 1 - first], axis=2).astype(np.int32),
        topk_probabilities=np.tile(np.float32([0.9, 0.1]), (2, 1000, 1)),
        own_cost=np.array([1.0, 0.0]),
        prefix_cost=np.array([0.0, 10.0]),
        cost_unit="macs",
    )


def losses(test, **goal):
    point = OperatingPoint.measure(test, Configuration((("saver", 0.5),)), name="p", goal=Goal(**goal))
    return class_losses([point], test, test.topk_classes[-1, :, 0], ["ok", "defect"])


def test_half_of_a_rare_class_is_told_though_all_together_lose_little():
    assert losses(rare(15), max_accuracy_drop=0.02) == [
        "p: class 'defect' loses 50.0 ± 9.1 points on its 30 test samples, more than five times the 2 allowed over all "
        "classes"
    ]


@pytest.mark.parametrize(
    ("finds", "goal"),
    [(15, {"max_accuracy_drop": 0.1}), (29, {"max_accuracy_drop": 0.0}), (30, {"max_accuracy_drop": 0.0}),
     (0, {"budget": 0.5})],
    ids=["five times as much is allowed", "one sample may be chance", "nothing is lost", "a budget allows anything"],
)  # fmt: skip
def test_classes_that_lose_no_more_than_that_are_not_told(finds, goal):
    assert losses(rare(finds), **goal) == []
