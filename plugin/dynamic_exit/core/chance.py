"""Whether answers are better than chance: the rule for candidates, the rule for backbones, and their common test.

A candidate is measured on all calibration samples, and one that slips through costs accuracy; it must beat its own
answers dealt out at random, and must not lose to the commonest class. A backbone is checked on a few hundred samples
before any work, and a false alarm costs the user a look at weights and labels; it is only compared with the commonest
class.
"""

import math

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.integer]
Hits = NDArray[np.bool_]

#: Significance level of both tests of a candidate, each one-sided.
CANDIDATE_LEVEL = 0.01
#: Significance level of the test of a backbone.
BACKBONE_LEVEL = 0.05
# with fewer samples outside the commonest class, not even a perfect backbone could be told from chance
_MIN_OTHERS = 5
# random assignments where a bound does not decide
_PERMUTATIONS = 4999


def no_better_than_chance(answers: Classes, truth: Classes) -> str | None:
    """Test whether a candidate's answers are better than chance.

    Two tests, each valid for any number of classes and any class shares. The first is a permutation test: the same
    answers, assigned to the samples at random, are correct as often with a probability above `CANDIDATE_LEVEL`. A
    constant answer fails it, as do answers that are independent of the samples; a saver that recognizes half of a class
    of 3 % passes. The second is McNemar's: always answering the commonest class is significantly more accurate.

    Args:
        answers: int (N,), the class that each sample got.
        truth: int (N,), the correct class; samples with -1 (unknown) are ignored.

    Returns:
        The reason in a few words if they are no better; None if they are, or if the samples are too few to tell.
    """
    known = truth >= 0
    answers, truth = answers[known], truth[known]
    if not can_tell(truth):
        return None
    correct = answers == truth
    share = f"{correct.mean():.1%} of {len(truth)} right"
    if not _beats_permutations(answers, truth, int(correct.sum())):
        return f"no better than chance: {share}, {_expected_hits(answers, truth) / len(truth):.1%} by chance"
    commonest = is_commonest(truth)
    if is_more_accurate(commonest, correct, CANDIDATE_LEVEL):
        return f"no better than chance: {share}, {commonest.mean():.1%} with the commonest class alone"
    return None


def no_better_than_commonest(answers: Classes, truth: Classes) -> bool:
    """Whether a backbone is not significantly more accurate than always answering the commonest class.

    Args:
        answers: int (N,), the class that each sample got.
        truth: int (N,), the correct class, never -1.

    Returns:
        False, too, if the samples are too few to tell.
    """
    commonest = is_commonest(truth)
    enough = bool((~commonest).sum() >= _MIN_OTHERS)
    return enough and not is_more_accurate(answers == truth, commonest, BACKBONE_LEVEL)


def is_commonest(truth: Classes) -> Hits:
    """Return where always answering the commonest class is correct, bool (N,)."""
    return truth == np.bincount(truth).argmax()


def is_more_accurate(correct: Hits, other: Hits, level: float) -> bool:
    """Whether one classifier is significantly more accurate than another on the same samples.

    McNemar's exact test, one-sided.

    Args:
        correct: bool (N,), where the one is correct.
        other: bool (N,), where the other is.
        level: Significance level, in (0, 1).
    """
    wins, losses = int((correct & ~other).sum()), int((other & ~correct).sum())
    return wins > losses and _at_most(losses, wins + losses) <= level


def can_tell(truth: Classes) -> bool:
    """Whether samples and their classes are numerous enough for a perfect candidate to be told from chance.

    Args:
        truth: int (N,), the correct classes; samples with -1 (unknown) are ignored.
    """
    counts = np.bincount(truth[truth >= 0])
    # the share of all assignments of the correct answers that are correct on every sample
    share = sum(map(_log_factorial, counts.tolist())) - _log_factorial(int(counts.sum()))
    return share <= math.log(CANDIDATE_LEVEL)


def _log_factorial(number: int) -> float:
    return math.lgamma(number + 1)


def _at_most(heads: int, tosses: int) -> float:
    """Return the probability of at most so many heads in some tosses of a fair coin; scipy is slow to import."""
    number = np.arange(1, heads + 1)
    logs = np.concatenate([[0.0], np.log((tosses - number + 1) / number).cumsum()])
    return float(np.exp(logs - tosses * math.log(2)).sum())


def _beats_permutations(answers: Classes, truth: Classes, hits: int) -> bool:
    expected, deviation = _expected_hits(answers, truth), _deviation_of_hits(answers, truth)
    if hits <= expected:
        return False
    if (hits - expected) ** 2 >= deviation**2 * (1 / CANDIDATE_LEVEL - 1):  # Cantelli's inequality
        return True
    generator = np.random.default_rng(0)
    as_often = sum(int((generator.permutation(truth) == answers).sum()) >= hits for _ in range(_PERMUTATIONS))
    return (as_often + 1) / (_PERMUTATIONS + 1) <= CANDIDATE_LEVEL


def _class_counts(answers: Classes, truth: Classes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how often each class is answered, and how often it is correct."""
    classes = max(int(answers.max()), int(truth.max())) + 1
    return np.bincount(answers, minlength=classes).astype(float), np.bincount(truth, minlength=classes).astype(float)


def _expected_hits(answers: Classes, truth: Classes) -> float:
    """Return the expected number of correct answers under random assignment."""
    answered, correct = _class_counts(answers, truth)
    return float(answered @ correct) / len(truth)


def _deviation_of_hits(answers: Classes, truth: Classes) -> float:
    """Return the standard deviation of that number."""
    answered, correct = _class_counts(answers, truth)
    count, both = len(truth), answered * correct
    pairs = (both @ ((answered - 1) * (correct - 1)) + both.sum() ** 2 - both @ both) / (count * (count - 1))
    mean = both.sum() / count
    return math.sqrt(max(0.0, pairs + mean - mean**2))
