"""One test of an accuracy drop, or an increase of risk, by betting (Waudby-Smith and Ramdas, arXiv 2010.09686).

The bet is on the paired loss per sample, d = worth of the backbone's answer - worth of the dynamic one, scaled into
[-1, 1]: one of -1, 0 and 1 where the risk is accuracy. If E[d] > a, any wealth

    W(b) = product over samples of (1 + b (a - d)),    0 <= b < 1 / (1 - a)

has an expectation of at most 1, and so has a mixture over b that is fixed beforehand; it exceeds 1 / (1 - P) with
probability at most 1 - P, for any number of samples: no normal approximation, and backbone and dynamic answer need not
be independent. Good bets depend on the mean square of d, which the search samples tell. If labels are unknown, d says
that the dynamic answer differs from the backbone's, and the guarantee is about disagreement.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

#: The expected share of samples that only one of backbone and configuration answers correctly, if nothing is known.
DISCORDANCE = 0.05
# bets around the best one for the expected discordance, should that be off, and the share of the stake on each
_BET_FACTORS = np.array([0.6, 1.0, 1.6])
_STAKES = np.array([0.25, 0.5, 0.25])
_MAX_SAMPLES = 1e12


class Losses(NamedTuple):
    """Paired losses of samples: the distinct values, and how often each occurs.

    Attributes:
        values: float64 (n,) in [-1, 1].
        counts: float64 (n,) >= 0.
    """

    values: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, losses: np.ndarray) -> "Losses":
        """Count the losses (N,) of samples."""
        values, counts = np.unique(losses, return_counts=True)
        return cls(values.astype(np.float64), counts.astype(np.float64))

    @classmethod
    def of_counts(cls, worse: float, better: float, same: float) -> "Losses":
        """Return the losses of answers that are right or wrong.

        Args:
            worse: Samples that only the backbone answers correctly.
            better: Samples that only the configuration answers correctly.
            same: All others.
        """
        return cls(np.array([1.0, -1.0, 0.0]), np.array([worse, better, same], dtype=np.float64))

    @property
    def samples(self) -> float:
        """Their number."""
        return float(self.counts.sum())

    @property
    def mean(self) -> float:
        """The mean loss: the accuracy drop, or increase of risk."""
        return float(self.counts @ self.values / self.samples)

    @property
    def mean_square(self) -> float:
        """The mean of squares: the share of samples that only one of both answers correctly."""
        return float(self.counts @ self.values**2 / self.samples)

    def times(self, factor: float) -> "Losses":
        """Return so many times as many samples with the same shares."""
        return Losses(self.values, self.counts * factor)


@dataclass(frozen=True)
class BettingTest:
    """A test of ``true drop > allowed``, fixed before the calibration samples are looked at.

    Attributes:
        allowed: The allowed drop, in (-1, 1).
        probability: Of keeping it, in (0, 1).
        samples: Number of calibration samples.
        discordance: The expected mean square of losses: the share of samples that only one of backbone and
            configuration answers correctly. A wrong guess costs power, never validity.
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

    def log_wealth(self, losses: Losses) -> float:
        """Return the logarithm of the mixed wealth.

        Args:
            losses: Of the calibration samples.

        Returns:
            The logarithm; if the true drop exceeds the allowed one, the expectation of its exponential is at most 1.
        """
        factors = np.log1p(self.bets[:, None] * (self.allowed - losses.values))
        return float(np.logaddexp.reduce(factors @ losses.counts + np.log(_STAKES)))

    def passes(self, losses: Losses) -> bool:
        """Return whether these losses reject ``true drop > allowed`` at level ``1 - probability``."""
        return self.log_wealth(losses) >= -np.log1p(-self.probability)


def samples_needed(losses: Losses, allowed: float, probability: float) -> int | None:
    """Return about how many samples with the same shares would pass the test.

    Args:
        losses: Of some samples.
        allowed: The allowed drop, in (-1, 1).
        probability: In (0, 1).

    Returns:
        The number; None if the observed drop is not below the allowed one.
    """
    samples = losses.samples
    if losses.mean >= allowed:
        return None

    def enough(number: float) -> bool:
        test = BettingTest(allowed, probability, int(number), max(losses.mean_square, 1 / samples))
        return test.passes(losses.times(number / samples))

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
