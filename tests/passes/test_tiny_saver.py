import numpy as np
import pytest

from dynamic_exit.passes.tiny_saver import select_savers
from dynamic_exit.records import Records

N = 100


def records(savers, final_right=0.95, cost=1000.0):
    """Records in which the figures are known: samples are numbered, two classes, the label is always 0.

    Args:
        savers: name -> (cost, easy, right): it is sure (0.9) of the first `easy` samples and right there; of the others
            it is unsure (0.6) and right on the share `right` of them, the last ones first.
        final_right: The share of samples that the final gets right, the first ones first.
        cost: Of the final.
    """
    number = np.arange(N)

    def stage(right, sure):
        rows = np.empty((N, 2))
        rows[:, 0] = np.where(right, sure, 1 - sure)
        rows[:, 1] = 1 - rows[:, 0]
        return rows

    probabilities = []
    for _, easy, right in savers.values():
        at_ease = number < easy
        probabilities.append(stage(at_ease | (number >= N - round(right * (N - easy))), np.where(at_ease, 0.9, 0.6)))
    probabilities.append(stage(number < round(final_right * N), np.full(N, 0.99)))
    names = (*savers, "final")
    return Records.from_probabilities(
        labels=np.zeros(N, int),
        stages=names,
        kinds=["saver"] * len(savers) + ["final"],
        positions=[-1] * len(savers) + [0],
        probabilities=probabilities,
        own_cost=[saver[0] for saver in savers.values()] + [0.0],
        prefix_cost=[0.0] * len(savers) + [cost],
    )


def test_the_cheapest_pair_at_matched_accuracy_wins():
    # at matched accuracy only the sure samples may leave: cost = own + (100 - easy) % of 1000
    found = select_savers(records({"weak": (10.0, 20, 0.0), "good": (50.0, 60, 0.0), "dear": (400.0, 80, 0.0)}), 1)
    assert [(c.stage, c.chosen) for c in found] == [("good", True), ("dear", False), ("weak", False)]
    assert [c.cost_ratio for c in found] == pytest.approx([0.45, 0.6, 0.81])
    assert [c.answered for c in found] == pytest.approx([0.6, 0.8, 0.2])
    assert [c.accuracy for c in found] == pytest.approx([0.6, 0.8, 0.2])
    assert [c.cost for c in found] == [50, 400, 10]
    assert [c.why for c in found] == ["largest saving at matched accuracy", "another saves more", "another saves more"]


def test_accuracy_alone_does_not_win():
    """The more accurate candidate alone, but unsure where it is right."""
    found = select_savers(records({"unsure": (50.0, 10, 0.8), "sure": (50.0, 50, 0.0)}), 1)
    assert [c.stage for c in found if c.chosen] == ["sure"]
    by_name = {c.stage: c for c in found}
    assert by_name["unsure"].accuracy > by_name["sure"].accuracy


def test_none_is_chosen_where_none_saves_anything():
    # 20 % leave and everyone pays 300: 1100 in place of 1000
    found = select_savers(records({"dear": (300.0, 20, 0.0), "never": (10.0, 0, 0.0)}), 1)
    assert [(c.chosen, c.why) for c in found] == [(False, "saves nothing at matched accuracy")] * 2
    assert [c.cost_ratio for c in found] == [1.0, 1.0]  # matched accuracy is then the backbone alone


def test_a_saver_may_be_better_than_the_backbone():
    found = select_savers(records({"better": (50.0, 100, 0.0)}), 1)
    assert [(c.stage, c.chosen, c.answered) for c in found] == [("better", True, 1.0)]
    assert found[0].cost_ratio == pytest.approx(0.05)


def test_matched_accuracy_counts_the_backbones_own_mistakes():
    """It may err as often as the backbone, not on the same samples."""
    # sure of 50; right on 45 of the 50 others, wrong on samples 50 to 54; the final is wrong on the last 5
    found = select_savers(records({"other": (10.0, 50, 0.9)}), 1)
    assert found[0].answered == 1.0
    assert found[0].cost_ratio == pytest.approx(0.01)


def test_a_chain_holds_several_only_if_each_pays():
    # 10 for 50 sure samples, then 100 for 30 more: 10 + 50 % of 100 + 20 % of 1000 = 260, against 510 or 300 alone
    savers = {"small": (10.0, 50, 0.0), "large": (100.0, 80, 0.0)}
    one = select_savers(records(savers), 1)
    assert [c.stage for c in one if c.chosen] == ["large"]
    two = select_savers(records(savers), 2)
    assert {c.stage for c in two if c.chosen} == {"small", "large"}
    assert {c.why for c in two} == {"in the best chain"}
    # a second that is hardly better than the first costs more than it saves
    useless = select_savers(records({"small": (10.0, 50, 0.0), "hardly": (300.0, 52, 0.0)}), 2)
    assert {c.stage for c in useless if c.chosen} == {"small"}
