"""Samples without labels: thresholds are searched on them, unless savers were made with them."""

import numpy as np
import tiny
from instances import savers

from dynamic_exit.candidates.pool import CandidatePool
from dynamic_exit.core.cache import Cache
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.points import judged, tune_points
from dynamic_exit.pipeline.run import recorded_splits
from dynamic_exit.pipeline.stages import Build, RecordedBuild
from dynamic_exit.recipe import read_recipe

HALVES = {"data.splits.train": "train[:50%]", "data.splits.unlabelled": "train[50%:]"}
PLAIN = {"dynamic_exit__early_exit": None, "quantization": None}


def test_savers_that_are_made_leave_no_sample_without_labels_to_search(tmp_path):
    recipe = tiny.build(tmp_path, **PLAIN)

    def splits(**values):
        run_inputs = load_run_inputs(read_recipe(recipe, values))
        return recorded_splits(run_inputs, CandidatePool(run_inputs, Cache(None)))

    assert splits() == ["calibration", "test"]
    assert splits(**HALVES) == ["calibration", "test", "unlabelled"]
    made = {"dynamic_exit.tiny_saver.candidates": [{"make": "convnet", "shares": [0.3]}]}
    assert splits(**HALVES, **made) == ["calibration", "test"]
    run_inputs = load_run_inputs(read_recipe(recipe, HALVES))
    assert recorded_splits(run_inputs, None) == ["calibration", "test", "unlabelled"], "exits alone"


def test_thresholds_are_searched_on_them(tmp_path, log_lines):
    recipe = tiny.build(tmp_path, **PLAIN, dynamic_exit__tuning={"max_accuracy_drop": 0.01})
    build = Build(load_run_inputs(read_recipe(recipe)), None, None, None, None)
    calibration, test, more = (savers(seed, 800, count=1) for seed in (0, 1, 2))
    recorded = RecordedBuild(build, calibration, test, more._replace(labels=np.full(800, -1)))
    tune_points(judged(recorded))
    assert log_lines[-1] == "searched: what all stages say and 800 samples without labels"
