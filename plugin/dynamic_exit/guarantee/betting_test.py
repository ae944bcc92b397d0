"""One test of an accuracy drop by betting (Waudby-Smith and Ramdas, arXiv 2010.09686).

The bet is on the paired difference per sample, d = backbone correct - dynamic correct, in {-1, 0, 1}. If E[d] > a, any
wealth

    W(b) = (1 - b (1 - a))^n[+1] * (1 + b a)^n[0] * (1 + b (1 + a))^n[-1],    0 <= b < 1 / (1 - a)

has an expectation of at most 1, and so has a mixture over b that is fixed beforehand; it exceeds 1 / (1 - P) with
probability at most 1 - P, for any number of samples: no normal approximation, and backbone and dynamic answer need not
be independent. Good bets depend on how often the two differ, which the search samples tell. If labels are unknown, d
says that the dynamic answer differs from the backbone's, and the guarantee is about disagreement.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

#: The expected share of samples that only one of backbone and configuration answers correctly, if nothing is known.
DISCORDANCE = 0.05
# bets around the best one for the expected discordance, should that be off, and the share of the stake on each
_BET_FACTORS = np.array([0.6, 1.0, 1.6])
_STAKES = np.array([0.25, 0.5, 0.25])
_MAX_SAMPLES = 1e12


@dataclass(frozen=True)
class BettingTest:
    """A test of ``true drop > allowed``, fixed before the calibration samples are looked at.

    Attributes:
        allowed: The allowed drop, in (-1, 1).
        probability: Of keeping it, in (0, 1).
        samples: Number of calibration samples.
        discordance: The expected share of samples that only one of backbone and configuration answers correctly. A
            wrong guess costs power, never validity.
        widest: The largest allowed drop, in absolute value, of all tests that shall bet alike; the own one if None.
            Tests that bet alike pass in order: what passes for a drop passes for every larger one.
    """

    allowed: float
    probability: float
    samples: int
    discordance: float = DISCORDANCE
    widest: float | None = None

    @property
    def bets(self) -> np.ndarray:
        """float64 (3,): the bets, each in (0, 1 / (1 - allowed))."""
        # maximizes the expected log wealth b * margin - b^2 * discordance / 2 at the margin that just passes
        events = self.samples * max(self.discordance, 1 / self.samples)
        best = np.sqrt(-2 * np.log1p(-self.probability) / events)
        # staying below the bound keeps every factor of the wealth positive, for negative allowances too
        widest = max(abs(self.allowed), self.widest or 0.0)
        return np.minimum(_BET_FACTORS * best, 0.95 / (1 + widest))

    def log_wealth(self, worse: float, better: float, same: float) -> float:
        """Return the logarithm of the mixed wealth.

        Args:
            worse: Samples that only the backbone answers correctly.
            better: Samples that only the configuration answers correctly.
            same: All others.

        Returns:
            The logarithm; if the true drop exceeds the allowed one, the expectation of its exponential is at most 1.
        """
        bets = self.bets
        wealth = worse * np.log1p(-bets * (1 - self.allowed)) + same * np.log1p(bets * self.allowed)
        return float(logsumexp(wealth + better * np.log1p(bets * (1 + self.allowed)), b=_STAKES))

    def passes(self, worse: float, better: float, same: float) -> bool:
        """Return whether these counts reject ``true drop > allowed`` at level ``1 - probability``."""
        return self.log_wealth(worse, better, same) >= -np.log1p(-self.probability)


def samples_needed(counts: tuple[int, int, int], allowed: float, probability: float) -> int | None:
    """Return about how many samples with the same shares would pass the test.

    Args:
        counts: (worse, better, same).
        allowed: The allowed drop, in (-1, 1).
        probability: In (0, 1).

    Returns:
        The number; None if the observed drop is not below the allowed one.
    """
    samples = sum(counts)
    worse, better, same = (count / samples for count in counts)
    if worse - better >= allowed:
        return None

    def enough(number: float) -> bool:
        test = BettingTest(allowed, probability, int(number), max(worse + better, 1 / samples))
        return test.passes(worse * number, better * number, same * number)

    high = 1.0
    while not enough(high):
        high *= 2
        if high > _MAX_SAMPLES:
            return None
    low = high / 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return int(np.ceil(high))
