"""Candidates of thresholds against all thresholds there are."""

import numpy as np
import pytest

from dynamic_exit.monitoring.retuning import StageAnswers, candidate_path

COSTS = np.array([0.1, 0.4, 1.4])


def drawn(samples, seed):
    """Two stages: who is sure is seldom wrong; confidences have ties, and one in twenty has none."""
    random = np.random.default_rng(seed)
    sure = np.sort(random.random((samples, 2)), axis=1).round(1).astype(np.float32)
    differs = np.column_stack([random.random((samples, 2)) > sure, random.random(samples) < 0.02])
    return StageAnswers(np.where(random.random((samples, 2)) < 0.05, -1, sure).astype(np.float32), differs)


def figures(answers, thresholds):
    return answers.disagrees(thresholds).mean(), COSTS[answers.exits(thresholds)].mean()


@pytest.mark.parametrize("seed", range(5))
def test_candidates_are_the_best_there_are(seed):
    answers = drawn(300, seed)
    grid = np.append(np.unique(answers.confidence), 1).astype(np.float32)
    known = [figures(answers, np.array([a, b], np.float32)) for a in grid for b in grid]
    path = [figures(answers, each) for each in candidate_path(answers, COSTS, 0.2, 10)]
    assert 3 <= len(path) <= 10 and path == sorted(path, key=lambda each: -each[1])
    for share, cost in path:
        assert share <= 0.2
        # stages take turns, so that a pair of thresholds may be missed, though not by much
        assert cost <= min(each[1] for each in known if each[0] <= share) + 0.03


def test_samples_without_a_confidence_leave_at_the_end():
    answers = StageAnswers(np.full((4, 1), -1, np.float32), np.zeros((4, 2), bool))
    (thresholds,) = candidate_path(answers, np.array([0.1, 1.1]), 0.5, 10)
    assert answers.exits(thresholds).tolist() == [1] * 4


def test_nothing_is_proposed_where_even_the_end_differs_too_often():
    assert (
        candidate_path(StageAnswers(np.full((9, 1), 0.9, np.float32), np.ones((9, 2), bool)), COSTS[:2], 0.5, 5) == []
    )
