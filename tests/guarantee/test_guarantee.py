import numpy as np
import pytest
from instances import savers
from scipy.stats import multinomial

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import TuningError
from dynamic_exit.guarantee import BettingTest, Expected, Losses, count_losses, fixed_sequence_test, samples_needed
from dynamic_exit.points.goal import Goal
from dynamic_exit.tuning.optimizer import tune


@pytest.mark.parametrize("allowed", [-0.02, 0.0, 0.01, 0.2])
@pytest.mark.parametrize("guess", [0.01, 0.3])
def test_under_the_hypothesis_the_wealth_expects_at_most_one(allowed, guess):
    # exactly, over every outcome of 40 samples whose true drop is the allowed one
    bet = BettingTest(allowed, 0.9, 40, guess)
    for discordance in (0.25, 0.6):
        worse, better = (discordance + allowed) / 2, (discordance - allowed) / 2
        outcomes = np.array([(w, b, 40 - w - b) for w in range(41) for b in range(41 - w)])
        chances = multinomial.pmf(outcomes, 40, [worse, better, 1 - worse - better])
        logs = np.array([bet.log_wealth(Losses.of_counts(*outcome)) for outcome in outcomes])
        assert chances @ np.exp(logs) <= 1 + 1e-9
        assert chances[[bet.passes(Losses.of_counts(*outcome)) for outcome in outcomes]].sum() <= 0.1


def test_counts_are_those_of_the_pairs():
    records = savers(0, 500)
    configuration = Configuration((("saver0", 0.6),), "none")
    losses = count_losses(records, configuration)
    assert losses.samples == 500 and set(losses.values) <= {-1, 0, 1}
    assert losses.mean == pytest.approx(evaluate(records, configuration).accuracy_drop)


def test_the_boldest_that_passes_is_promised():
    records = savers(1, 4000)
    path = [Configuration((("saver0", t),), "none") for t in (0.999, 0.99, 0.95, 0.0)]
    verdict = fixed_sequence_test(records, path, max_accuracy_drop=0.03, probability=0.9)
    assert 1 <= verdict.passed < 4
    assert verdict.guarantee.model_dump() == {"max_accuracy_drop": 0.03, "probability": 0.9, "samples": 4000}


def test_testing_stops_at_the_first_failure():
    records = savers(1, 4000)
    path = [Configuration((("saver0", t),), "none") for t in (0.0, 0.999)]
    assert fixed_sequence_test(records, path, max_accuracy_drop=0.03, probability=0.9).passed == 0


def test_what_cannot_be_shown_is_not_promised():
    few = savers(2, 30)
    made = tune(savers(2, 300), few, [Goal(max_accuracy_drop=0.01)], guarantee_records=few, guarantee=0.95)
    assert made.points[0].guarantee is None
    (note,) = made.warnings
    assert note.startswith("accuracy-drop-1%: no guarantee, 30 calibration samples, on which the safest configuration")
    assert note.endswith(("such samples would: allow a larger drop", "would be needed"))
    everyone = [Configuration((("saver0", 0.0),), "none")]
    verdict = fixed_sequence_test(savers(1, 200), everyone, max_accuracy_drop=0.01, probability=0.95)
    assert verdict.guarantee is None and verdict.samples_needed is None
    assert verdict.reason.endswith("no number of such samples would: allow a larger drop")
    path = [Configuration((("saver0", 0.999),), "none")]
    verdict = fixed_sequence_test(savers(1, 200), path, max_accuracy_drop=0.01, probability=0.95)
    assert verdict.guarantee is None and verdict.reason.endswith(f"about {verdict.samples_needed} would be needed")
    assert verdict.samples_needed > 200


def test_samples_needed_are_enough():
    losses = Losses.of_counts(20, 18, 962)
    needed = samples_needed(losses, 0.01, 0.95)
    assert BettingTest(0.01, 0.95, needed, 0.038).passes(losses.times(needed / 1000))
    assert not BettingTest(0.01, 0.95, needed // 2, 0.038).passes(losses.times(needed // 2 / 1000))
    assert samples_needed(Losses.of_counts(30, 18, 952), 0.01, 0.95) is None


def test_promises_hold_as_often_as_they_say():
    # a population of 20,000; calibration samples drawn from it with replacement, so that its drop is the true one
    population = savers(3, 20_000)
    search = savers(4, 1000)
    path = [Configuration((("saver0", t),), "none") for t in np.linspace(0.99, 0.5, 30)]
    truth = {configuration: evaluate(population, configuration).accuracy_drop for configuration in path}
    share = count_losses(search, path[10]).mean_square
    random, broken, promised = np.random.default_rng(0), 0, 0
    for _ in range(200):
        rows = random.integers(20_000, size=1500)
        verdict = fixed_sequence_test(
            population.take(rows), path, max_accuracy_drop=0.02, probability=0.8, expected=Expected(share)
        )
        promised += verdict.passed > 0
        broken += verdict.passed > 0 and truth[path[verdict.passed - 1]] > 0.02
    assert promised > 150
    assert broken <= 200 * 0.2


@pytest.mark.parametrize("probability", [0, 1, 95, float("nan")])
def test_probabilities_out_of_range(probability):
    with pytest.raises(
        TuningError, match="the guarantee's probability must be between 0 and 1, 0.95 for instance; got"
    ):
        fixed_sequence_test(savers(5, 50), [], max_accuracy_drop=0.01, probability=probability)


def test_drops_out_of_range():
    with pytest.raises(TuningError, match="the allowed accuracy drop must be between -1 and 1; got 1"):
        fixed_sequence_test(savers(5, 50), [], max_accuracy_drop=1, probability=0.9)
