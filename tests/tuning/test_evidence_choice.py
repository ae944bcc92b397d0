"""Evidence that the user leaves open: the better one is found, ties stay plain, and what records lack is told."""

from dataclasses import replace

import numpy as np
import pytest
from instances import savers

from dynamic_exit.chain.evidence import AUTO, Evidence
from dynamic_exit.errors import TuningError
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.evidence_choice import settle_evidence
from dynamic_exit.tuning.optimizer import optimize, tune

OPEN = SearchOptions(Evidence(AUTO, AUTO))
GOALS = [Goal(max_accuracy_drop=drop) for drop in (0.0, 0.01)]


def overconfident(samples: int = 4_000) -> Records:
    """A saver that is far too sure of itself, so that a mean of probabilities hears it above the final."""
    random = np.random.default_rng(0)
    labels, classes = random.integers(10, size=samples), np.eye(10)
    hard = random.standard_normal((samples, 1))
    weak = (1.2 - hard) * classes[labels] + random.standard_normal((samples, 10))
    middle = (2.0 - hard) * classes[labels] + random.standard_normal((samples, 10))
    final = (3.0 - hard) * classes[labels] + random.standard_normal((samples, 10))
    table = StageTable.of(
        ["weak", "middle", "final"], ["saver", "saver", "final"], [-1, -1, 0], [0.05, 0.3, 0.0], [0.0, 0.0, 1.0]
    )
    return Records.from_logits(labels, table, [8 * weak, middle, 2 * final])


def test_the_cheaper_evidence_is_chosen_and_its_powers_learned():
    settled = settle_evidence(overconfident(), GOALS, OPEN).fuse
    assert (settled.rule, settled.confidence) == ("product", "margin")
    assert settled.power("weak") < 0.5 < settled.power("middle")


def test_what_does_not_pay_stays_plain():
    random = np.random.default_rng(0)
    labels = random.integers(2, size=600)
    # of two classes both confidences say the same, and whatever the saver says, the final decides
    saver, final = (strength * np.eye(2)[labels] for strength in (2.0, 30.0))
    table = StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0.0], [0.0, 1.0])
    records = Records.from_logits(labels, table, [saver + random.standard_normal((600, 2)), final])
    assert settle_evidence(records, GOALS, OPEN).fuse == Evidence("mean")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("mean", AUTO), ("mean", "top1")),
        (("product", AUTO), ("product", "margin")),
        (("none", AUTO), ("none", "top1")),
        ((AUTO, "margin"), ("product", "margin")),
        (("mean", "margin"), ("mean", "margin")),
    ],
)
def test_what_the_user_names_is_kept(wanted, expected):
    settled = settle_evidence(savers(0, 300), GOALS, SearchOptions(Evidence(*wanted))).fuse
    assert (settled.rule, settled.confidence) == expected


def test_records_that_keep_too_few_classes_are_told_with_how_many():
    full = savers(0, 300)
    few = Records(**{**vars(full), "topk_classes": full.topk_classes[:, :, :3],
                     "topk_probabilities": full.topk_probabilities[:, :, :3]})  # fmt: skip
    for wanted in (Evidence("product", "margin"), Evidence("product", AUTO)):
        with pytest.raises(TuningError) as refused:
            settle_evidence(few, GOALS, SearchOptions(wanted))
        assert str(refused.value) == (
            "'product with margin' looks at the 5 most likely classes of a stage, the records keep 3; record more, or "
            "combine by mean and top1"
        )
    assert settle_evidence(few, GOALS, OPEN).fuse == Evidence("mean")


def test_a_rule_is_not_searched_with_classes_that_other_records_lack():
    full = savers(0, 300)
    few = Records(**{**vars(full), "topk_classes": full.topk_classes[:, :, :3],
                     "topk_probabilities": full.topk_probabilities[:, :, :3]})  # fmt: skip
    product = Evidence("product", "margin")
    for given, more in (((full, few), {}), ((full, full), {"unlabelled": few})):
        with pytest.raises(TuningError, match="looks at the 5 most likely classes of a stage, the records keep 3"):
            tune(*given, GOALS, SearchOptions(product, **more))
        assert tune(*given, GOALS, replace(OPEN, **more)).points[0].fuse == "mean"
    with pytest.raises(TuningError, match="the records keep 3"):
        tune(full, full, GOALS, SearchOptions(product), guarantee_records=few, guarantee=0.9)


def test_all_points_of_a_tuning_share_the_evidence_and_hold_the_powers_of_their_stages():
    found = optimize(overconfident(), GOALS, OPEN)
    for each in found:
        names = [name for name, _ in each.stages]
        assert (each.fuse.rule, each.fuse.confidence) == ("product", "margin")
        assert [name for name, _ in each.fuse.powers] == sorted(names)


def lopsided(samples: int) -> Records:
    """A binary saver whose "yes" is worth far more than its "no", however sure it is of either."""
    random = np.random.default_rng(0)
    labels, sure = random.integers(2, size=samples), random.uniform(0.5, 1.0, samples)
    yes = random.random(samples) < np.where(labels == 1, 0.7, 0.02)
    right, chances = yes == labels, np.empty((samples, 2))
    chances[np.arange(samples), yes.astype(int)] = sure
    chances[np.arange(samples), 1 - yes] = 1 - sure
    assert right[yes].mean() > 0.95 > 0.8 > right[~yes].mean()
    table = StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0.0], [0.0, 1.0])
    return Records.from_probabilities(labels, table, [chances, 0.01 + 0.98 * np.eye(2)[labels]], k=2)


def test_auto_learns_that_one_answer_of_two_is_worth_more():
    found = settle_evidence(lopsided(4_000), [Goal(max_accuracy_drop=0.01)], OPEN).fuse
    assert found.confidence == "learned" and [name for name, _ in found.gates] == ["saver"]
    told = optimize(lopsided(4_000), [Goal(max_accuracy_drop=0.01)], OPEN)
    assert told[0].stages and told[0].fuse.gates


def test_a_learned_confidence_of_few_samples_falls_back_and_says_so():
    wanted = SearchOptions(Evidence("mean", "learned"))
    assert settle_evidence(lopsided(199), GOALS, wanted).fuse == Evidence("mean", "margin")
    points = tune(lopsided(199), lopsided(300), GOALS, wanted)
    assert points.warnings[0] == (
        "confidence 'learned' needs 200 samples to search on, there are 199; 'margin' is used in its place"
    )
    assert settle_evidence(lopsided(200), GOALS, wanted).fuse.confidence == "learned"
