from dataclasses import replace

import numpy as np
import pytest
from instances import random_records, savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import RecordsError
from dynamic_exit.learning.posterior import learn_posterior
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.goal_limits import goals_from_drops
from dynamic_exit.records import Records, StageTable
from dynamic_exit.records.risk import parse_risk
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.solver import Search
from dynamic_exit.tuning.few_labels import settle_labels, unused_warnings
from dynamic_exit.tuning.optimizer import tune

GOALS = [Goal(max_accuracy_drop=0.01)]


def test_one_stage_that_is_calibrated_is_its_own_posterior():
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(4), 40_000).astype(np.float32)
    labels = (random.random((40_000, 1)) > np.cumsum(shares, axis=1)).sum(axis=1).clip(max=3)
    table = StageTable.of(["final"], ["final"], [0], [0], [1])
    posterior = learn_posterior(Records.from_probabilities(labels, table, [shares])).posterior
    place = np.argsort(posterior[0], axis=1)
    found = np.take_along_axis(posterior[1], place, axis=1)
    assert np.abs(found - shares).mean() < 0.01
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)


def test_answers_are_worth_how_often_they_are_right():
    records, other = savers(0, 2_000), savers(1, 40_000)
    configuration = Configuration((("saver1", 0.6),), "mean")
    # learned on few, asked about others: their labels say the same on average
    judged = learn_posterior(records, other)
    rows = np.arange(2_000, 42_000)
    figures, truth = evaluate(judged.take(rows), configuration), evaluate(other, configuration)
    assert np.array_equal(figures.prediction, truth.prediction)
    assert figures.risk_increase == pytest.approx(truth.accuracy_drop, abs=0.005)


def test_other_risks_are_averaged_over_what_the_class_may_be():
    records, loss = savers(0, 300), np.abs(np.subtract.outer(np.arange(10), np.arange(10))) / 9
    judged = learn_posterior(records).with_risk(parse_risk(loss.tolist(), 10))
    answers = records.topk_classes[0, :, 0].astype(np.int64)
    classes, chances = judged.posterior
    expected = [
        sum(chance * (1 - loss[known, answer]) for known, chance in zip(*row, strict=True) if known >= 0)
        for *row, answer in zip(classes, chances, answers, strict=True)
    ]
    assert judged.worth(answers) == pytest.approx(np.array(expected), abs=1e-5)


def test_drops_on_others_vary_less():
    drops: dict[bool, list[float]] = {False: [], True: []}
    other, goals = savers(99, 20_000), [Goal(max_accuracy_drop=0.01)]
    for seed in range(20):
        records = savers(seed, 600).select(["saver1"])
        for posterior in drops:
            options = SearchOptions("none", posterior=posterior, thorough=False)
            (found,) = Search(options.samples_of(records), options).configurations(goals)
            drops[posterior].append(evaluate(other, found).accuracy_drop)
    assert np.std(drops[True]) < 0.7 * np.std(drops[False])
    assert np.mean(drops[True]) < 0.01


def test_labels_are_asked_where_they_are_many_or_have_to_be_counted():
    records, goals = savers(0, 600), [Goal(max_accuracy_drop=0.01)]
    assert settle_labels(records, goals, SearchOptions("none")).posterior is True
    limited = [Goal(max_accuracy_drop=0.01, max_class_drop=0.05)]
    assert settle_labels(records, limited, SearchOptions("none")).posterior is False
    assert settle_labels(savers(0, 100), goals, SearchOptions("none")).posterior is False
    agreement = SearchOptions("none", risk=parse_risk("agreement", 10))
    assert settle_labels(records, goals, agreement).posterior is False
    assert settle_labels(records, goals, SearchOptions("none", posterior=False)).posterior is False


def test_samples_without_labels_take_part_and_their_labels_do_not():
    records, further, other = savers(0, 500), savers(1, 2_000), savers(2, 4_000)
    hidden = further._replace(labels=np.full(2_000, -1))
    goals = [Goal(max_accuracy_drop=0.01)]
    made = [
        tune(records, other, goals, SearchOptions("none", posterior=True, unlabelled=each)).points[0].stages
        for each in (further, hidden, None)
    ]
    assert made[0] == made[1] != made[2]
    with pytest.raises(RecordsError, match="the unlabelled records are of another chain: their stages are"):
        tune(records, other, goals, SearchOptions("none", unlabelled=savers(1, 100, count=2)))


def test_what_samples_without_labels_join_keeps_its_risk_and_needs_no_groups():
    records, further = savers(0, 500)._replace(groups=np.arange(500) % 2), savers(1, 100)
    balanced = parse_risk("balanced_accuracy", 10).fit(records)
    judged = learn_posterior(records.with_risk(balanced), further)
    assert judged.risk is balanced and len(judged) == 600


@pytest.mark.parametrize(
    ("samples", "risk", "most", "reason"),
    [
        (600, "agreement", None, "the risk agreement needs no labels"),
        (600, "accuracy", 0.05, "what classes or groups lose is counted on labels"),
        (399, "accuracy", None, "400 samples with labels are needed to learn from, 399 are searched"),
    ],
)
def test_samples_without_labels_that_take_no_part_are_told(samples, risk, most, reason):
    options = SearchOptions("none", risk=parse_risk(risk, 10), unlabelled=savers(1, 50))
    goals = goals_from_drops([0.01], risk, most)
    warnings = tune(savers(0, samples), savers(2, 600), goals, options).warnings
    assert f"the 50 samples without labels take no part in the search: {reason}" in warnings
    assert unused_warnings(savers(0, samples), goals, replace(options, unlabelled=None), options) == []


def test_many_labels_leave_little_noise_to_lower():
    records = random_records(0, 20_001, 1)
    (said,) = unused_warnings(records, GOALS, SearchOptions(unlabelled=records), SearchOptions(posterior=False))
    assert said.endswith("with 20001 labels, of which 20000 are many, there is little noise to lower")
    few, options = records.take(slice(500)), SearchOptions(unlabelled=records)
    (said,) = unused_warnings(few, GOALS, options, SearchOptions(posterior=False))
    assert said.endswith("on labels that are held out, labels alone are cheaper")
    assert unused_warnings(few, GOALS, options, replace(options, posterior=True)) == []
