"""Powers of stages: known answers where the true ones are known, and what stays as it is."""

import numpy as np
import pytest

from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.evidence.product import FLOOR
from dynamic_exit.learning.powers import learn_powers
from dynamic_exit.records import Records, StageTable

PRODUCT = Evidence("product", "margin")


def experts(truth_powers: tuple[float, ...], samples: int = 6_000, classes: int = 4) -> Records:
    """Stages whose answers, weighed by known powers, are the true chances of the classes."""
    random = np.random.default_rng(0)
    shares = random.gamma(1.5, 1.0, (len(truth_powers), samples, classes))
    # probabilities whose share log(1 + p / floor) is known, up to what makes them sum to 1
    chances = FLOOR * np.expm1(shares)
    chances /= chances.sum(axis=2, keepdims=True)
    score = np.tensordot(np.array(truth_powers), np.log1p(chances / FLOOR), 1)
    odds = np.exp(score)
    odds /= odds.sum(axis=1, keepdims=True)
    labels = (odds.cumsum(axis=1) > random.random((samples, 1))).argmax(axis=1)
    names = [f"s{place}" for place in range(len(truth_powers) - 1)]
    count = len(names)
    table = StageTable.of(
        [*names, "final"], ["saver"] * count + ["final"], [-1] * count + [0], [0.1] * count + [0], [0] * count + [1]
    )
    return Records.from_probabilities(labels, table, chances, k=classes)


@pytest.mark.parametrize(("own", "final"), [(0.5, 1.0), (1.0, 1.0), (0.3, 1.2)])
def test_the_power_of_a_saver_is_found_relative_to_the_finals(own, final):
    found = learn_powers(experts((own, final)), PRODUCT)
    assert found.power("s0") == pytest.approx(own / final, abs=0.06)
    assert (found.rule, found.confidence, found.power("final")) == ("product", "margin", 1.0)


def test_a_stage_that_guesses_hardly_counts():
    records = experts((0.0, 1.0))
    assert learn_powers(records, PRODUCT).power("s0") == pytest.approx(0.05, abs=0.03)


def test_what_has_powers_weighs_nothing_or_knows_no_label_stays():
    records = experts((0.5, 1.0), samples=300)
    unlabelled = Records(**{**vars(records), "labels": np.full(300, -1)})
    given = Evidence("product", "margin", (("s0", 0.7),))
    for table, evidence in ((records, Evidence("mean")), (records, given), (unlabelled, PRODUCT)):
        assert learn_powers(table, evidence) is evidence
