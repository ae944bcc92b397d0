import numpy as np
import pytest
from instances import random_records, savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.group_losses import group_drops
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import RecipeError, RecordsError, TuningError
from dynamic_exit.records import Records
from dynamic_exit.records.risk import BalancedAccuracy, ExpectedLoss, TopK, parse_risk

LABELS = np.array([0, 0, 0, 1])
ANSWERS = np.array([0, 0, 1, 2])


def test_what_answers_are_worth_by_hand():
    assert parse_risk("accuracy", 3).worth(LABELS, ANSWERS).tolist() == [True, True, False, False]
    lists = np.array([[0, 1], [1, 0], [1, 2], [2, 1]])
    assert parse_risk("top_2", 3).worth(LABELS, lists).tolist() == [True, True, False, True]
    loss = [[0, 0.25, 1], [1, 0, 0.5], [1, 1, 0]]
    assert parse_risk(loss, 3).worth(LABELS, ANSWERS).tolist() == [1, 1, 0.75, 0.5]
    # three samples of class 0 and one of class 1, two classes occur: weights 4 / (2 * 3) and 4 / (2 * 1)
    balanced = BalancedAccuracy(np.array([2 / 3, 2.0, 0.0]))
    assert balanced.worth(LABELS, ANSWERS).tolist() == pytest.approx([2 / 3, 2 / 3, 0, 0])
    assert balanced.largest == 2


def of_final(labels: np.ndarray, answers: np.ndarray, classes: int = 3) -> Records:
    from dynamic_exit.records import StageTable

    table = StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0], [0, 1])
    return Records.from_probabilities(labels, table, [np.eye(classes)[answers], np.eye(classes)[labels]], k=classes)


def test_balanced_accuracy_is_the_mean_over_classes():
    records = of_final(LABELS, ANSWERS)
    always = Configuration((("saver", -1.0),))
    figures = evaluate(records.with_risk(BalancedAccuracy().fit(records)), always)
    assert figures.risk == pytest.approx(1 - (2 / 3 + 0) / 2)
    assert figures.accuracy == 0.5, "accuracy stays accuracy"
    assert group_drops(records, always) == {0: pytest.approx(1 / 3), 1: 1.0}


def test_agreement_needs_no_labels():
    records = savers(0, 300)
    unlabelled = savers(0, 300)._replace(labels=np.full(300, -1))
    configuration = Configuration((("saver1", 0.6),))
    judged = evaluate(records.with_risk(parse_risk("agreement", 10)), configuration)
    assert judged.risk == pytest.approx(1 - evaluate(unlabelled, configuration).accuracy)
    assert judged.accuracy == evaluate(records, configuration).accuracy


@pytest.mark.parametrize("fuse", ["none", "mean", "product"])
def test_top_k_looks_at_the_evidence_of_all_stages(fuse):
    records = random_records(3, 200, 3, classes=6).with_risk(TopK(2))
    configuration = Configuration(tuple((stage, 0.5) for stage in records.stages[:-1] if "saver" in stage), fuse)
    figures, recorded = evaluate(records, configuration), Evidence(fuse).on(records)
    stages = [records.index(name) for name, _ in configuration.stages] + [3]
    for row in range(200):
        seen = stages[: stages.index(int(figures.exit_index[row])) + 1]
        if fuse == "none":
            seen = seen[-1:]
        dense = recorded.rule.dense_evidence(recorded, seen, np.array([row]), 6)[0]
        best = np.argsort(-dense, kind="stable")[:2]
        assert figures.worth[row] == (records.labels[row] in best)


def test_functions_and_files_become_matrices(tmp_path):
    (tmp_path / "losses.py").write_text(
        "import numpy as np\n"
        "def far(truth, answer):\n    return np.abs(truth - answer) / 2\n"
        "def short(truth, answer):\n    return np.zeros(3)\n"
        "def wrong(truth, answer):\n    return truth - answer\n"
        "def lost(truth, answer):\n    return np.full(len(truth), np.nan)\n"
        "def broken(truth, answer):\n    raise KeyError('no such class')\n"
    )
    risk = parse_risk("losses.py:far", 3, tmp_path)
    assert isinstance(risk, ExpectedLoss) and risk.loss.tolist() == [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]
    np.savetxt(tmp_path / "costs.csv", risk.loss, delimiter=",")
    np.save(tmp_path / "costs.npy", risk.loss)
    for name in ("costs.csv", "costs.npy"):
        assert np.array_equal(parse_risk(name, 3, tmp_path).loss, risk.loss)
    for name, message in {
        "short": r"returned an array of shape \(3,\) for 9 pairs",
        "wrong": "gives the answer 1 for class 0 a loss of -1; losses lie in 0..1",
        "lost": "gives the answer 0 for class 0 a loss of nan; losses lie in 0..1",
        "broken": "failed: .*no such class.*; it gets two int64 arrays",
    }.items():
        with pytest.raises(TuningError, match=message):
            parse_risk(f"losses.py:{name}", 3, tmp_path)
    with pytest.raises(RecipeError, match="has no function 'fur'; did you mean 'far'"):
        parse_risk("losses.py:fur", 3, tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("top_0", "names no risk: 'top_0' is neither a file of costs"),
        ("balanced", "did you mean 'balanced_accuracy'"),
        ("costs.csv", "'costs.csv' is no table of costs: .*; write one row of numbers for each true class"),
        ([[0, 1]], r"the cost matrix is of shape \(1, 2\); 3 classes need 3 rows"),
        ([[0, 1, 2]] * 3, "the cost matrix gives the answer 2 for class 0 a loss of 2; losses lie in 0..1"),
        ([["a"]], "the cost matrix must hold numbers"),
    ],
)
def test_what_is_no_risk(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TuningError, match=message):
        parse_risk(given, 3)


def test_records_that_keep_too_few_classes_are_told():
    with pytest.raises(RecordsError, match="the risk 'top_7' looks at 7 classes of an answer, the records keep 5"):
        savers(0, 50).with_risk(TopK(7))


def test_groups_travel_with_records(tmp_path):
    groups = np.arange(60) % 3
    records = random_records(0, 60, 2)._replace(groups=groups)
    records.write(tmp_path / "records.npz")
    read = Records.read(tmp_path / "records.npz")
    assert np.array_equal(read.groups, groups) and np.array_equal(read.take(np.arange(5)).groups, groups[:5])
    assert np.array_equal(Records.join([read, read], along="samples").groups, np.tile(groups, 2))
    with pytest.raises(RecordsError, match="some of the parts have groups of samples and others none"):
        Records.join([read, random_records(0, 60, 2)], along="samples")
    with pytest.raises(RecordsError, match="'groups' must give each of 60 samples a group from 0; got 3 from 0"):
        Records(**{**{key: getattr(records, key) for key in ("labels", "topk_classes", "topk_probabilities")},
                   **records.stage_table.columns(), "cost_unit": "macs", "groups": groups[:3]})  # fmt: skip
