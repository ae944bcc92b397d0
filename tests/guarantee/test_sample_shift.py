import numpy as np
import pytest

from dynamic_exit.guarantee.sample_shift import SIGNIFICANCE, SampleShift, find_shift
from dynamic_exit.records import Records, StageTable


def records(*confidences):
    """Records of two classes: a saver for all confidences but the last, which are the final's."""
    probabilities = np.stack([np.stack([1 - each, each], axis=1) for each in confidences])
    kinds = ["saver"] * (len(confidences) - 1) + ["final"]
    names = [f"saver{index}" for index in range(len(confidences) - 1)] + ["final"]
    costs = [1.0] * (len(kinds) - 1) + [0.0], [0.0] * (len(kinds) - 1) + [10.0]
    table = StageTable.of(names, kinds, [-1] * (len(kinds) - 1) + [1], *costs)
    return Records.from_probabilities(np.ones(len(confidences[0]), np.int64), table, probabilities)


def draw(seed, count, sharpness=4.0):
    return np.random.default_rng(seed).beta(sharpness, 1.0, count) / 2 + 0.5


def test_the_distance_by_hand():
    # 0.55 is exceeded by none of the first and by all of the others but a quarter
    low, high = np.full(400, 0.55), np.r_[np.full(300, 0.9), np.full(100, 0.55)]
    same = draw(0, 400)
    shift = find_shift(records(low, same), records(high, same))
    assert shift.stage == "saver0" and shift.distance == pytest.approx(0.75) and shift.probability < 1e-50


def test_samples_drawn_alike_seldom_differ():
    """By chance at most one draw in a thousand is called different: of 300, hardly more than two."""
    found = [
        find_shift(
            records(draw([seed, 0], 500), draw([seed, 1], 500)), records(draw([seed, 2], 900), draw([seed, 3], 900))
        )
        for seed in range(300)
    ]
    assert sum(shift is not None for shift in found) <= 2


def test_a_shift_of_the_final_alone_is_found():
    one, other = (draw(seed, 800) for seed in (1, 2))
    shift = find_shift(records(one, draw(3, 800, 6.0)), records(other, draw(4, 800, 3.0)))
    assert shift.stage == "final" and shift.probability < SIGNIFICANCE


def test_the_warning_says_what_and_how_much():
    assert SampleShift("words", 0.213, 3.2e-12).warning == (
        "calibration and test samples differ: at some confidence of stage 'words' the shares of them that exceed it "
        "are 21 points apart (two-sample Kolmogorov-Smirnov test, p = 3e-12), so that what was tuned or guaranteed on "
        "the former need not hold for the latter"
    )
