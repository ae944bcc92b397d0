"""Inputs that hold NaN or infinity: never taken for a sample, and never in silence."""

import copy
import pickle

import numpy as np
import pytest
import tiny

from dynamic_exit.artifact.non_finite import answer
from dynamic_exit.artifact.standalone import load_runner
from dynamic_exit.errors import ArgumentError, InputError
from dynamic_exit.modeling import DynamicExitModelForImageClassification as Model

CLEAN = tiny.samples("test")[0][:12]
ODD = {1: np.nan, 4: np.inf, 7: -np.inf}
SENTENCE = "input 'input' holds NaN or infinity, first in row 1; mend it, or load the model with non_finite='report'"


def spoilt():
    """Samples with one number in each of three rows that is not finite."""
    rows = CLEAN.copy()
    for row, value in ODD.items():
        rows[row].flat[row] = value
    return rows


@pytest.mark.parametrize("kind", ["ran", "ran_float", "ran_segments"])
@pytest.mark.parametrize("load", [load_runner, Model.from_pretrained])
def test_they_are_refused_or_answered_with_nan_by_the_last_stage(kind, load, request):
    folder = request.getfixturevalue(kind).folder
    with pytest.raises(InputError, match=SENTENCE):
        load(folder)(spoilt())
    model = load(folder, non_finite="report")
    kept = [row for row in range(len(CLEAN)) if row not in ODD]
    for point in (*model.operating_points.names, "backbone"):
        model.set_operating_point(point)
        answers, clean = model(spoilt()), model(CLEAN)
        for row in ODD:
            assert np.isnan(answers.logits[row]).all() and np.isnan(answers.confidence[row])
            assert answers.exit_index[row] == len(model.stages)
        assert np.array_equal(answers.exit_index[kept], clean.exit_index[kept])
        np.testing.assert_allclose(answers.logits[kept], clean.logits[kept], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_do_the_same(again, ran):
    for load in (load_runner, Model.from_pretrained):
        assert np.isnan(again(load(ran.folder, non_finite="report"))(spoilt()).confidence[[*ODD]]).all()
        with pytest.raises(InputError, match=SENTENCE):
            again(load(ran.folder))(spoilt())


def test_nothing_else_is_taken(ran):
    for load in (load_runner, Model.from_pretrained):
        with pytest.raises(ArgumentError, match="non_finite must be 'refuse' or 'report'; got 'ignore'$"):
            load(ran.folder, non_finite="ignore")


class Overflowing:
    """A model whose numbers overflow where an input is large."""

    stages = ("saver", "exit")

    def run(self, feeds, thresholds):
        (array,) = feeds.values()
        large = np.abs(array).max(axis=1) > 1e30
        confidence = np.where(large, np.nan, 0.9).astype(np.float32)
        logits = np.where(large[:, None], np.float32([[np.nan, 1]]), np.float32([[0, 1]]))
        return logits, np.where(large, 2, 0), confidence


def test_finite_inputs_that_the_model_cannot_compute_are_told_too():
    feeds, thresholds = {"x": np.float32([[1, 2], [1e38, 0]])}, np.zeros(2, np.float32)
    with pytest.raises(InputError, match="^row 1 is answered with NaN, though its inputs are finite: they are beyond"):
        answer(Overflowing(), feeds, thresholds, "refuse")
    logits, exit_index, confidence = answer(Overflowing(), feeds, thresholds, "report")
    assert np.isnan(logits).tolist() == [[False, False], [True, True]] and exit_index.tolist() == [0, 2]
    assert np.isnan(confidence).tolist() == [False, True]


def test_whole_numbers_and_empty_batches_pass(ran):
    feeds = {"x": np.zeros((0, 2), np.float32), "ids": np.zeros((0, 2), np.int64)}
    for choice in ("refuse", "report"):
        assert answer(Overflowing(), {"x": feeds["x"]}, np.zeros(2, np.float32), choice)[0].shape == (0, 2)
        assert len(load_runner(ran.folder, non_finite=choice)(CLEAN[:0]).logits) == 0
