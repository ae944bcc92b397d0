"""Whether a candidate's answers say anything of the classes, or are no better than chance."""

import math

import numpy as np
from scipy.special import bdtr, gammaln

#: Chance alone passes for knowledge so often: both tests are one-sided, at this level, for each candidate.
LEVEL = 0.01
# answers are dealt out at random so often where a bound cannot tell
_DEALS = 4999


def no_better_than_chance(answers: np.ndarray, truth: np.ndarray) -> str | None:
    """Hold answers against chance.

    Two tests, each exact whatever the number of classes, their shares and that of the samples. The first: dealt out to
    the samples at random, the same answers are right as often with a probability of more than `LEVEL`. An answer that
    is always the same fails it, as do answers that have nothing to do with the samples; a saver that finds half of the
    3 % that are rare passes it. The second (McNemar's): the commonest class for every sample is right more often, and
    that by luck with a probability of at most `LEVEL`.

    Args:
        answers: int (N,), the class that each sample got.
        truth: int (N,), the class that counts as right; -1 where unknown, which is left out.

    Returns:
        The reason in a few words where they are no better; None where they are, or where samples are too few to tell.
    """
    known = truth >= 0
    answers, truth = answers[known], truth[known]
    if not can_tell(truth):
        return None
    right = answers == truth
    share = f"{right.mean():.1%} of {len(truth)} right"
    if not _beats_deals(answers, truth, int(right.sum())):
        return f"no better than chance: {share}, {_expected(answers, truth) / len(truth):.1%} by chance"
    commonest = truth == np.bincount(truth).argmax()
    if is_right_more_often(commonest, right, LEVEL):
        return f"no better than chance: {share}, {commonest.mean():.1%} with the commonest class alone"
    return None


def is_right_more_often(right: np.ndarray, other: np.ndarray, level: float) -> bool:
    """Whether one is right more often than another on the same samples, beyond luck: McNemar's exact test, one-sided.

    Args:
        right: bool (N,): where the one is right.
        other: bool (N,): where the other is.
        level: How often luck alone may pass, in (0, 1).
    """
    wins, losses = int((right & ~other).sum()), int((other & ~right).sum())
    return wins > losses and bool(bdtr(losses, wins + losses, 0.5) <= level)


def can_tell(truth: np.ndarray) -> bool:
    """Whether samples are enough, and their classes various enough, that right answers cannot be chance.

    Args:
        truth: int (N,), the classes that count as right; -1 where unknown.
    """
    counts = np.bincount(truth[truth >= 0])
    # of all ways to deal out the right answers, those that are right on every sample
    return bool(gammaln(counts + 1).sum() - gammaln(counts.sum() + 1) <= math.log(LEVEL))


def _beats_deals(answers: np.ndarray, truth: np.ndarray, right: int) -> bool:
    expected, deviation = _expected(answers, truth), _deviation(answers, truth)
    if right <= expected:
        return False
    if (right - expected) ** 2 >= deviation**2 * (1 / LEVEL - 1):  # Cantelli's inequality
        return True
    generator = np.random.default_rng(0)
    as_often = sum(int((generator.permutation(truth) == answers).sum()) >= right for _ in range(_DEALS))
    return (as_often + 1) / (_DEALS + 1) <= LEVEL


def _counts(answers: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each class is given as the answer, and how often it is the right one."""
    classes = max(int(answers.max()), int(truth.max())) + 1
    return tuple(np.bincount(each, minlength=classes).astype(float) for each in (answers, truth))


def _expected(answers: np.ndarray, truth: np.ndarray) -> float:
    """How many of the answers are right on average once they are dealt out at random."""
    given, wanted = _counts(answers, truth)
    return float(given @ wanted) / len(truth)


def _deviation(answers: np.ndarray, truth: np.ndarray) -> float:
    """The standard deviation of that number."""
    given, wanted = _counts(answers, truth)
    count, both = len(truth), given * wanted
    pairs = (both @ ((given - 1) * (wanted - 1)) + both.sum() ** 2 - both @ both) / (count * (count - 1))
    mean = both.sum() / count
    return math.sqrt(max(0.0, pairs + mean - mean**2))
