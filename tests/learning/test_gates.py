"""Gates of stages: known answers where the true ones are known, few numbers for few samples, what stays as it is."""

import numpy as np
import pytest

from dynamic_exit.chain.confidence import Gate
from dynamic_exit.chain.confidence.learned import log_odds
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.learning import learn_gates
from dynamic_exit.records import Records, StageTable
from dynamic_exit.records.risk.builtin import Agreement, ExpectedLoss, TopK

OWN = Evidence("none", "learned")
TABLE = StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0.0], [0.0, 1.0])


def cascade(offsets: tuple[float, float], weight: float, samples: int = 20_000, seed: int = 0) -> Records:
    """A binary saver that is right with known log-odds: a weight times its own, and an offset for each answer."""
    random = np.random.default_rng(seed)
    answer, sure = random.integers(2, size=samples), random.uniform(0.5, 0.98, samples).astype(np.float32)
    right = random.random(samples) < 1 / (1 + np.exp(-(weight * log_odds(sure) + np.array(offsets)[answer])))
    labels = np.where(right, answer, 1 - answer)
    saver, final = np.empty((samples, 2)), 0.01 + 0.98 * np.eye(2)[labels]
    saver[np.arange(samples), answer], saver[np.arange(samples), 1 - answer] = sure, 1 - sure
    return Records.from_probabilities(labels, TABLE, [saver, final], k=2)


def confidence(records: Records, evidence: Evidence) -> np.ndarray:
    return evidence.on(records).evaluate([0], np.arange(len(records)))[1]


@pytest.mark.parametrize(("offsets", "weight"), [((0.0, 0.0), 1.0), ((-0.5, 1.0), 0.6), ((1.0, -1.0), 1.5)])
def test_the_chance_to_be_right_is_found_by_predicted_class(offsets, weight):
    records = cascade(offsets, weight)
    found = learn_gates(records, OWN)
    classes = records.topk_classes[0, :, 0]
    sure = records.topk_probabilities[0, :, 0]
    true = 1 / (1 + np.exp(-(weight * log_odds(sure) + np.array(offsets)[classes])))
    np.testing.assert_allclose(confidence(records, found), true, atol=0.03)


def test_a_gate_foretells_whether_going_on_would_mend_the_answer():
    records = cascade((0.0, 0.0), 1.0)
    # the final has unlearned the first class: who answers it loses nothing, right or wrong
    final = np.tile(np.array([0.1, 0.9]), (len(records), 1))
    saver = np.zeros((len(records), 2))
    np.put_along_axis(saver, records.topk_classes[0].astype(int), records.topk_probabilities[0], axis=1)
    other = Records.from_probabilities(np.zeros(len(records), int), TABLE, [saver, final], k=2)
    assert confidence(other, learn_gates(other, OWN)).min() > 0.98


def test_without_labels_it_foretells_agreement_with_the_final():
    records = cascade((-0.5, 1.0), 0.6)
    unlabelled = Records(**{**vars(records), "labels": np.full(len(records), -1)})
    assert learn_gates(unlabelled, OWN) == learn_gates(records, OWN)


def test_gates_judge_by_the_risk():
    records = cascade((-0.5, 1.0), 0.6)
    unlabelled = Records(**{**vars(records), "labels": np.full(len(records), -1)})
    lied = Records(**{**vars(records), "labels": np.zeros(len(records), int), "risk": Agreement()})
    assert learn_gates(lied, OWN) == learn_gates(unlabelled, OWN)
    # to say 0 in error costs nothing
    free = Records(**{**vars(records), "risk": ExpectedLoss("costs", np.array([[0.0, 1.0], [0.0, 0.0]]))})
    sure = confidence(free, learn_gates(free, OWN))[records.topk_classes[0, :, 0] == 0]
    assert sure.min() > 0.95 > confidence(records, learn_gates(records, OWN)).min()
    # any answer holds the true class among the two that there are
    two = Records(**{**vars(records), "risk": TopK(2)})
    assert confidence(two, learn_gates(two, OWN)).min() > 0.95


def test_a_thousand_classes_hardly_fit_the_noise_of_few_samples_each():
    random = np.random.default_rng(0)
    labels = random.integers(1_000, size=5_000)
    right = random.random(5_000) < 0.8
    answers = np.stack([np.where(right, labels, (labels + 1) % 1_000), np.where(right, labels + 2, labels) % 1_000])
    shares = np.tile(np.float32([0.7, 0.2]), (5_000, 1))
    records = Records(
        labels, TABLE.names, TABLE.kinds, TABLE.positions,
        np.stack([np.stack([answers[0], answers[1]], 1), np.stack([labels, answers[0] + 1000], 1)]).astype(np.int32),
        np.stack([shares, shares]), TABLE.own_cost, TABLE.prefix_cost, "macs",
    )  # fmt: skip
    gate = dict(learn_gates(records, OWN).gates)["saver"]
    assert len(gate.offsets) == 1_000 and np.std(gate.offsets) < 0.1


def test_a_stage_that_is_never_wrong_has_finite_numbers():
    labels = np.arange(300) % 3
    sure = 0.02 + 0.94 * np.eye(3)[labels]
    found = learn_gates(Records.from_probabilities(labels, TABLE, [sure, sure], k=3), OWN)
    records = Records.from_probabilities(labels, TABLE, [sure, sure], k=3)
    assert np.isfinite(dict(found.gates)["saver"].offsets).all() and confidence(records, found).min() > 0.95


def test_other_confidences_stay_and_old_gates_go():
    records = cascade((0.0, 0.0), 1.0, samples=500)
    margin = Evidence("mean", "margin")
    assert learn_gates(records, margin) is margin
    old = Evidence("none", "learned", gates=(("saver", Gate(constant=9.0)), ("gone", Gate())))
    assert learn_gates(records, old) == learn_gates(records, OWN)
