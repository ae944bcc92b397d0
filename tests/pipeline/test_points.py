"""Which samples thresholds are searched on, and what a guarantee is relative to."""

import numpy as np
import tiny
from instances import random_records, savers

from dynamic_exit.candidates.pool import CandidatePool
from dynamic_exit.core.cache import Cache
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.points import judged, tune_points
from dynamic_exit.pipeline.stages import Build, RecordedBuild, recorded_splits
from dynamic_exit.pipeline.static_search.results import Baseline, StaticSearchResult
from dynamic_exit.points.goal import Goal
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


def test_thresholds_are_searched_on_samples_without_labels(tmp_path, log_lines):
    recipe = tiny.build(tmp_path, **PLAIN, dynamic_exit__tuning={"max_accuracy_drop": 0.01})
    build = Build(load_run_inputs(read_recipe(recipe)), None, None, None, None)
    calibration, test, more = (savers(seed, 800, count=1) for seed in (0, 1, 2))
    recorded = RecordedBuild(build, calibration, test, more._replace(labels=np.full(800, -1)))
    tune_points(judged(recorded))
    assert log_lines[-1] == "searched: what all stages say and 800 samples without labels"


def test_a_function_beside_the_recipe_judges_its_points(tmp_path):
    (tmp_path / "losses.py").write_text("def free(truth, answer):\n    return 0.1 * (truth != answer)\n")
    tuning = {"risk": "losses.py:free", "max_risk_increase": 0.02, "points": [{"max_risk_increase": 0.0}]}
    recipe = tiny.build(tmp_path, **PLAIN, dynamic_exit__tuning=tuning)
    build = Build(load_run_inputs(read_recipe(recipe)), None, None, None, None)
    records = random_records(3, 800, 2, classes=3)
    points = tune_points(judged(RecordedBuild(build, records, records))).points
    assert [each.name for each in points] == ["risk-increase-2%", "risk-increase-0%"]
    assert all(each.risk.name.endswith("losses.py:free") for each in points)
    assert points[0].risk.increase <= 0.02 < points[0].accuracy_drop, "a wrong answer costs a tenth"


def test_a_guarantee_under_a_static_search_is_about_the_backbone_as_it_came(tmp_path):
    tuning = {"max_accuracy_drop": 0.02, "guarantee": 0.9}
    recipe = tiny.build(tmp_path, **PLAIN, dynamic_exit__tuning=tuning)
    build = Build(load_run_inputs(read_recipe(recipe)), None, None, None, None)
    calibration, test = (savers(seed, 3_000, count=2) for seed in (0, 1))
    recorded = judged(RecordedBuild(build, calibration, test))
    # the backbone as it came answers as a saver does, which is right less often than the final
    given = {"calibration": calibration, "test": test}
    answers = {key: each.topk_classes[each.index("saver1"), :, 0] for key, each in given.items()}
    baseline = Baseline(None, 1.0, answers, {key: each.labels for key, each in given.items()})
    gained = (calibration.topk_classes[-1, :, 0] == calibration.labels).mean() - baseline.accuracy("calibration")
    found = StaticSearchResult(baseline, [], None, [Goal(max_accuracy_drop=0.02 + gained)], [])
    (point,), (plain,) = tune_points(recorded, found).points, tune_points(recorded).points
    assert gained > 0.02 and point.cost_ratio < plain.cost_ratio
    assert (
        point.guarantee.max_accuracy_drop == plain.guarantee.max_accuracy_drop == point.goal.max_accuracy_drop == 0.02
    )
    assert baseline.accuracy("test") - point.accuracy <= 0.02
