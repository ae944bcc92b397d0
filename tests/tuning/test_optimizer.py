from dataclasses import replace

import numpy as np
import pytest
from instances import exits, savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.errors import RecordsError, TuningError
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.records import Records
from dynamic_exit.records.splits import split
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.optimizer import optimize, tune, tune_file


def changed(records: Records, **arrays) -> Records:
    return replace(records, **arrays)


def test_a_file_of_records_becomes_a_file_of_points(tmp_path):
    exits(0, 600).write(tmp_path / "records.npz")
    made = tune_file(tmp_path / "records.npz", tmp_path / "points.json", max_accuracy_drops=[0, 0.05])
    # warnings are logged, not written
    assert OperatingPoints.read(tmp_path / "points.json") == made.model_copy(update={"warnings": ()})
    assert made.names == ("accuracy-drop-0%", "accuracy-drop-5%")
    assert made.points[1].goal == Goal(max_accuracy_drop=0.05) and made.points[1].cost_ratio < 1
    assert made.points[0].samples == 300


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_the_same_seed_gives_the_same_bytes(tmp_path, fuse):
    savers(1, 400).write(tmp_path / "records.npz")
    for name in ("a", "b"):
        tune_file(
            tmp_path / "records.npz",
            tmp_path / name,
            SearchOptions(fuse=fuse, seed=3),
            max_accuracy_drops=[0.02],
            guarantee=0.9,
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = tune_file(
        tmp_path / "records.npz", tmp_path / "b", SearchOptions(fuse=fuse, seed=4), max_accuracy_drops=[0.02]
    )
    assert other.to_json().encode() != (tmp_path / "a").read_bytes()


def test_figures_come_from_the_report_samples_alone():
    records = savers(2, 900)
    search, report = records.take(slice(0, 600)), records.take(slice(600, 900))
    made = tune(search, report, [Goal(max_accuracy_drop=0.02), Goal(budget=0.5)])
    for point in made.points:
        figures = evaluate(report, point.configuration)
        assert (point.accuracy, point.cost, point.samples) == (figures.accuracy, figures.cost, 300)
        assert point.exit_rates == figures.exit_rates
    # other labels for the report change no threshold
    again = tune(search, changed(report, labels=(report.labels + 1) % 10), [Goal(max_accuracy_drop=0.02)])
    assert again.points[0].stages == made.points[0].stages


def test_parts_are_disjoint_and_complete():
    for guarantee in (False, True):
        parts = split(101, 0.5, guarantee, seed=1)
        assert sorted(np.concatenate(parts).tolist()) == list(range(101))
        assert len(parts[0]) == 50 and (len(parts[1]) == 25) == guarantee


def test_few_samples_are_searched_with_care():
    careful, plain = [], []
    goal = [Goal(max_accuracy_drop=0.0)]
    for seed in range(3):
        records = exits(seed, 6000, positions=6, heads=1)
        search, rest = records.take(slice(0, 300)), records.take(slice(300, 6000))
        careful.append(evaluate(rest, optimize(search, goal, SearchOptions(fuse="none"))[0]).accuracy_drop)
        plain.append(
            evaluate(rest, optimize(search, goal, SearchOptions(fuse="none"), crossfit=False)[0]).accuracy_drop
        )
    assert np.mean(careful) < 0.6 * np.mean(plain)


BAD = [
    ("one sample", lambda r: r.take([0]), {}, "1 sample is too few to tune on; record more"),
    (
        "one class",
        lambda r: changed(r, labels=np.full(len(r), 7)),
        {},
        "all 60 samples are of class 7; record samples of",
    ),
    (
        "one confidence",
        lambda r: changed(r, topk_probabilities=np.full_like(r.topk_probabilities, 0.125)),
        {},
        "every stage is equally sure of every sample (0.125), so no threshold can part them; record the",
    ),
    (
        "unmet drop",
        None,
        {"max_accuracy_drops": [-0.7]},
        "no configuration keeps the accuracy drop at or under -0.7; the",
    ),
    ("no drop", None, {"max_accuracy_drops": []}, "there is no goal; allow at least one accuracy drop"),
    ("twice", None, {"max_accuracy_drops": [0.01, 0.01]}, "the allowed accuracy drop 0.01 comes twice; give each once"),
    (
        "percent",
        None,
        {"max_accuracy_drops": [5]},
        "the allowed accuracy drop is 5, which allows a loss of 500 points; did you mean 0.05?",
    ),
    (
        "nan",
        None,
        {"max_accuracy_drops": [float("nan")]},
        "an allowed accuracy drop is a share between -1 and 0.2, 0.005 is",
    ),
    ("fraction", None, {"search_fraction": 1.0}, "the search fraction must be between 0 and 1; got 1"),
    (
        "tiny fraction",
        None,
        {"search_fraction": 0.001},
        "60 samples are too few to search and to report on different ones;",
    ),
    (
        "probability",
        None,
        {"guarantee": 95},
        "the guarantee's probability must be between 0 and 1, 0.95 for instance; got",
    ),
    ("savers", None, {"options": {"max_savers": -2}}, "max_savers must be 0 or more; got -2"),
    ("fuse", None, {"options": {"fuse": "max"}}, "fuse must be 'mean', 'none' or 'product'; got 'max'"),
]


@pytest.mark.parametrize(("change", "arguments", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_refused_and_nothing_written(tmp_path, change, arguments, message):
    records, arguments = savers(3, 60), dict(arguments)
    (change(records) if change else records).write(tmp_path / "records.npz")
    (tmp_path / "points.json").write_text("kept")
    with pytest.raises(TuningError) as error:
        options = SearchOptions(**arguments.pop("options", {}))
        tune_file(tmp_path / "records.npz", tmp_path / "points.json", options, **arguments)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "points.json").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["points.json", "records.npz"]


def test_malformed_records_are_refused(tmp_path):
    with pytest.raises(RecordsError, match="there is no records file"):
        tune_file(tmp_path / "records.npz", tmp_path / "points.json")


def test_a_guarantee_needs_samples_of_its_own():
    records = savers(4, 100)
    with pytest.raises(TuningError, match="a guarantee needs calibration samples of its own; pass guarantee_records"):
        tune(records, records, [Goal(max_accuracy_drop=0.1)], guarantee=0.9)


def test_records_without_labels_can_be_tuned_and_promised(tmp_path):
    records = changed(savers(5, 3000), labels=np.full(3000, -1))
    records.write(tmp_path / "records.npz")
    made = tune_file(
        tmp_path / "records.npz",
        tmp_path / "points.json",
        SearchOptions(fuse="none"),
        max_accuracy_drops=[0.1],
        guarantee=0.9,
    )
    assert made.baseline.accuracy == 1
    assert made.points[0].guarantee.samples == 750 and made.points[0].cost_ratio < 1


def test_figures_can_come_from_records_of_other_samples(tmp_path):
    records, others = savers(0, 500), savers(1, 300)
    made = tune_file(records, tmp_path / "points.json", max_accuracy_drops=[0.02], report=others)
    assert made == tune(records, others, [Goal(max_accuracy_drop=0.02)]), "all samples were searched"
    assert made.points[0].samples == 300
    promised = tune_file(
        records, tmp_path / "points.json", max_accuracy_drops=[0.2], report=others, guarantee=0.6, search_fraction=0.4
    )
    assert promised.points[0].samples == 300 and promised.points[0].guarantee.samples == 300
    with pytest.raises(RecordsError) as refused:
        tune_file(records, tmp_path / "points.json", report=savers(1, 300, count=2))
    assert str(refused.value) == (
        "the records of the report are of another chain: their stages are ('saver0', 'saver1', 'final'), not "
        "('saver0', 'saver1', 'saver2', 'final'); record the same stages in the same unit"
    )
