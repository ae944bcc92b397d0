import numpy as np
import pytest
from scipy import stats

from dynamic_exit.drift.conformal import ConformalRanks, Martingale, log_bets

KINDS = ("shape", "increase", "mix")


class Half:
    """Breaks every tie in the middle."""

    def random(self, count):
        return np.full(count, 0.5)


def test_p_values_count_the_harder_samples_so_far():
    ranks = ConformalRanks(np.array([2, 1, 0]))
    # by hand: of 3 samples none is harder than value 2, and it ties with itself alone: 0.5 / 4
    # value 0 then: of 4 two are harder, two as hard and itself: (2 + 1.5) / 5; value 2 again: (0 + 1) / 6
    assert ranks.rank(np.array([2, 0, 2]), Half()) == pytest.approx([0.5 / 4, 3.5 / 5, 1 / 6])
    assert ranks.counts.tolist() == [3, 1, 2]


@pytest.mark.parametrize(("parts", "count"), [(6, 200), (2, 700), (300, 600)])
def test_blocks_give_what_one_by_one_gives(parts, count):
    values = np.random.default_rng(0).integers(parts, size=count)
    whole, single = ConformalRanks(np.arange(parts)), ConformalRanks(np.arange(parts))
    together = whole.rank(values, Half())
    assert together == pytest.approx(np.concatenate([single.rank(values[i : i + 1], Half()) for i in range(count)]))
    assert whole.counts.tolist() == single.counts.tolist()


@pytest.mark.parametrize("reference", [5, 400])
def test_p_values_of_the_same_source_are_uniform_and_independent(reference):
    random = np.random.default_rng(reference)
    shares = np.array([0.5, 0.2, 0.2, 0.1])
    found = []
    for _ in range(400):
        ranks = ConformalRanks(random.multinomial(reference, shares))
        found.append(ranks.rank(random.choice(4, 50, p=shares), random))
    p_values = np.array(found)
    assert stats.kstest(p_values.ravel(), "uniform").pvalue > 0.001
    assert abs(stats.pearsonr(p_values[:, :-1].ravel(), p_values[:, 1:].ravel()).statistic) < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_bets_are_densities(kind):
    assert np.exp(log_bets(kind)).mean(axis=1) == pytest.approx(np.ones(len(log_bets(kind))))
    if kind == "increase":
        assert (log_bets(kind)[:, 0] > 0).all() and (log_bets(kind)[:, -1] < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_capital_is_a_martingale_that_seldom_grows_large(kind):
    random, level = np.random.default_rng(3), 0.05
    fired = 0
    for _ in range(300):
        martingale = Martingale(kind)
        values = []
        for _ in range(60):
            martingale.bet(random.random(64))
            values.append(martingale.log_value)
        fired += max(values) >= -np.log(level)
    assert fired <= 300 * level + 2 * np.sqrt(300 * level)
    means = []
    for _ in range(4000):  # of few bets: the mean of many is made of values that are too rare to be drawn
        martingale = Martingale(kind)
        martingale.bet(random.random(3))
        means.append(np.exp(martingale.log_value))
    assert np.mean(means) == pytest.approx(1, abs=4 * np.std(means) / np.sqrt(4000))


@pytest.mark.parametrize("quiet", [0, 200])
def test_a_change_is_noticed_and_dated(quiet):
    random = np.random.default_rng(7)
    martingale = Martingale("shape")
    for _ in range(quiet):
        martingale.bet(random.random(64))
    assert martingale.log_value < 1
    for _ in range(20):
        martingale.bet(random.beta(1, 1.6, 64))
    assert martingale.log_value > 6 and abs(martingale.change - quiet) <= 4


def test_what_is_set_aside_never_runs_out():
    martingale = Martingale("shape")
    for _ in range(3000):
        martingale.bet(np.linspace(0, 0.999, 64))  # as uniform as can be: all bets lose
    assert 0 < 1 - martingale.spent < 0.2 and martingale.log_value > np.log(0.05)


def test_a_state_goes_on_as_if_never_written():
    random = np.random.default_rng(1)
    martingale = Martingale("mix")
    for _ in range(5):
        martingale.bet(random.random(64))
    again = Martingale.from_dict(martingale.to_dict(), "mix")
    for each in (martingale, again):
        each.bet(np.linspace(0, 0.5, 64))
    assert again.log_value == martingale.log_value and again.change == martingale.change
    with pytest.raises(ValueError, match="bets"):
        Martingale.from_dict(martingale.to_dict(), "shape")
