import numpy as np
import pytest
from instances import exits, random_records, savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import OperatingPointError
from dynamic_exit.records import Records
from dynamic_exit.search.outcomes import OutcomeCache
from dynamic_exit.search.thresholds import score


def by_hand(records: Records, configuration: Configuration) -> tuple[list[int], list[int], float]:
    """One sample after the other, as the runtime's text says."""
    used = [(records.stages.index(name), np.float32(t)) for name, t in configuration.stages]
    used.append((len(records.stages) - 1, np.float32(-np.inf)))
    where, answers, paid = [], [], 0.0
    for sample in range(len(records)):
        evidence = np.zeros(1 + records.topk_classes.max(), dtype=np.float32)
        spent = 0.0
        for seen, (stage, threshold) in enumerate(used, start=1):
            own = np.zeros_like(evidence)
            own[records.topk_classes[stage, sample]] = records.topk_probabilities[stage, sample]
            evidence = evidence + own if configuration.fuse.rule == "mean" else own
            mean = evidence / np.float32(seen) if configuration.fuse.rule == "mean" else evidence
            spent += records.own_cost[stage]
            if mean.max() > threshold:
                where.append(stage)
                answers.append(int(mean.argmax()))
                paid += spent + records.prefix_cost[stage]
                break
    return where, answers, paid / len(records)


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_the_evaluator_does_what_the_text_says(fuse):
    for seed in range(8):
        records = random_records(seed, 60, 3, ties=seed % 2 == 0)
        taken, stages = set(), []
        for place, name in enumerate(records.stages[:-1]):
            if records.positions[place] < 0 or records.positions[place] not in taken:
                taken.add(records.positions[place])
                # on a confidence: a sample as sure as the threshold stays
                stages.append((name, float(np.median(records.topk_probabilities[place, :, 0]))))
        configuration = Configuration(tuple(stages), fuse)
        where, answers, cost = by_hand(records, configuration)
        figures = evaluate(records, configuration)
        assert figures.exit_index.tolist() == where
        assert figures.prediction.tolist() == answers
        assert figures.cost == pytest.approx(cost, rel=1e-12)
        assert figures.accuracy == np.mean(np.array(answers) == records.labels)
        assert sum(figures.exit_rates.values()) == pytest.approx(1)


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_the_search_counts_as_the_evaluator_does(fuse):
    for records in (savers(1, 500), exits(1, 500, heads=1)):
        chain = OutcomeCache(records, fuse).chain((0, 2))
        thresholds = np.array([0.6, 0.7], dtype=np.float32)
        counted = score(chain, thresholds)
        names = [records.stages[s] for s in chain.stages]
        figures = evaluate(records, Configuration(tuple(zip(names, thresholds.tolist(), strict=True)), fuse))
        assert counted.correct == round(figures.accuracy * 500)
        assert counted.cost / 500 == pytest.approx(figures.cost)


def test_fused_evidence_is_the_dense_mean():
    records = savers(2, 400)
    classes, confidence = Evidence("mean").on(records).search((0, 1, 3))
    dense = np.zeros((400, 10), dtype=np.float32)
    for stage in (0, 1, 3):
        dense[np.arange(400)[:, None], records.topk_classes[stage]] += records.topk_probabilities[stage]
    assert (classes == dense.argmax(axis=1)).all()
    assert (confidence == dense.max(axis=1) / np.float32(3)).all()


def test_everything_off_is_the_backbone():
    records = savers(3, 200)
    figures = evaluate(records, Configuration((("saver0", np.inf), ("saver2", 1.0)), "none"))
    alone = evaluate(records, Configuration())
    assert (figures.prediction == alone.prediction).all()
    assert alone.cost_ratio == 1 and alone.accuracy_drop == 0 and alone.exit_rates == {"final": 1.0}


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (Configuration((("saver9", 0.5),)), "there is no stage 'saver9' before the final; did you mean 'saver2'?"),
        (Configuration((("final", 0.5),)), "there is no stage 'final' before the final; known are: "),
        (
            Configuration((("saver1", 0.5), ("saver0", 0.5))),
            "stages must be in chain order, each once; 'saver0' is not",
        ),
        (Configuration((("saver1", float("nan")),)), "the threshold of 'saver1' must be a number; got nan"),
        (Configuration((), "median"), "fuse is 'median'; did you mean 'mean'?"),
    ],
)
def test_configurations_that_do_not_fit(configuration, message):
    with pytest.raises(OperatingPointError) as error:
        evaluate(savers(4, 50), configuration)
    assert message in str(error.value)


def test_two_heads_at_one_position():
    with pytest.raises(OperatingPointError, match="'exit0.0' and 'exit0.1' share a position; use at most one of them"):
        evaluate(exits(4, 50), Configuration((("exit0.0", 0.5), ("exit0.1", 0.5))))
