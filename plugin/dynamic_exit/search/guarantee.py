"""A promise that holds: the true accuracy drop is at most the allowed one, with a wanted probability.

Risk control by fixed-sequence testing (Learn then Test, arXiv 2110.01052; for early exit, Fast yet Safe, arXiv
2405.20915): configurations, ordered before the calibration samples are looked at, are tested from the safest to the
boldest until one fails. Each test is a bet (Waudby-Smith and Ramdas, arXiv 2010.09686) on the paired difference per
sample, d = backbone right - dynamic right, in {-1, 0, 1}. If E[d] > a, every wealth

    W(b) = (1 - b (1 - a))^n[+1] * (1 + b a)^n[0] * (1 + b (1 + a))^n[-1],    0 <= b < 1 / (1 - a)

has an expectation of at most 1, and so has a mixture over b that is fixed beforehand; it exceeds 1 / (1 - P) with
probability at most 1 - P, at any number of samples: no normal approximation, and backbone and dynamic answer need
not be independent. Good bets depend on how often the two differ, which the search samples tell. Where labels are
unknown, d says that the dynamic answer is another one than the backbone's, and the promise is about disagreement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from ..chain.evaluation import Configuration, evaluate
from ..chain.operating_point import Goal, Guarantee
from ..errors import TuningError
from ..records import Records
from .solver import Search

# bets around the best one for the expected discordance, should that be off, and what part of the stake is on each
_AROUND = np.array([0.6, 1.0, 1.6])
_STAKES = np.array([0.25, 0.5, 0.25])
DISCORDANCE = 0.05
# the path goes from so many standard errors of the drop below the allowed one up to it, in so many steps
_SAFEST = 6.0
_PATH_STEPS = 19


@dataclass(frozen=True)
class TestOutcome:
    """What the tests came to.

    Attributes:
        passed: How many configurations passed, from the safest on.
        guarantee: The promise for the boldest that passed, or None.
        reason: Why there is none; empty where there is one.
        samples_needed: About how many calibration samples the safest would need to pass; None if none would do.
    """

    passed: int
    guarantee: Guarantee | None
    reason: str = ""
    samples_needed: int | None = None


@dataclass(frozen=True)
class BettingTest:
    """A test of ``true drop > allowed``, fixed before the calibration samples are looked at.

    Attributes:
        allowed: The allowed drop, in (-1, 1).
        probability: Of keeping it, in (0, 1).
        samples: How many calibration samples there will be.
        discordance: The expected share of samples that only one of backbone and configuration answers right. A wrong
            guess costs power, never validity.
        widest: The largest allowed drop, its sign aside, of all tests that shall bet alike; the own one if None. Tests
            that bet alike pass in order: what passes for a drop passes for every larger one.
    """

    allowed: float
    probability: float
    samples: int
    discordance: float = DISCORDANCE
    widest: float | None = None

    @property
    def bets(self) -> np.ndarray:
        """float64 (3,): the bets, each in (0, 1 / (1 - allowed))."""
        # maximises the expected log wealth b * margin - b^2 * discordance / 2 at the margin that just passes
        events = self.samples * max(self.discordance, 1 / self.samples)
        best = np.sqrt(-2 * np.log1p(-self.probability) / events)
        # staying below the bound keeps every factor of the wealth positive, for negative allowances too
        widest = max(abs(self.allowed), self.widest or 0.0)
        return np.minimum(_AROUND * best, 0.95 / (1 + widest))

    def log_wealth(self, worse: float, better: float, same: float) -> float:
        """Return the logarithm of the mixed wealth.

        Args:
            worse: Samples that only the backbone answers right.
            better: Samples that only the configuration answers right.
            same: All others.

        Returns:
            The logarithm; where the true drop exceeds the allowed one, its exponential expects at most 1.
        """
        bets = self.bets
        wealth = worse * np.log1p(-bets * (1 - self.allowed)) + same * np.log1p(bets * self.allowed)
        return float(logsumexp(wealth + better * np.log1p(bets * (1 + self.allowed)), b=_STAKES))

    def passes(self, worse: float, better: float, same: float) -> bool:
        """Return whether these counts reject ``true drop > allowed`` at level ``1 - probability``."""
        return self.log_wealth(worse, better, same) >= -np.log1p(-self.probability)


def discordant(records: Records, configuration: Configuration) -> tuple[int, int, int]:
    """Count how backbone and configuration differ.

    Args:
        records: Samples; where a label is unknown, the backbone's answer counts as right.
        configuration: What to compare.

    Returns:
        (worse, better, same), which sum to the samples.
    """
    truth = records.truth
    alone = records.topk_classes[-1, :, 0] == truth
    correct = evaluate(records, configuration).prediction == truth
    worse, better = int((alone & ~correct).sum()), int((~alone & correct).sum())
    return worse, better, len(records) - worse - better


def fixed_sequence_test(
    records: Records,
    path: Sequence[Configuration],
    *,
    max_accuracy_drop: float,
    probability: float,
    discordance: float = DISCORDANCE,
    widest: float | None = None,
) -> TestOutcome:
    """Test configurations from the safest to the boldest, and promise the last that passes.

    Args:
        records: Calibration samples that neither search nor report uses.
        path: Configurations in an order that was fixed without these samples.
        max_accuracy_drop: The allowed drop, in (-1, 1).
        probability: That of the promise, in (0, 1).
        discordance: The expected share of samples that only one of backbone and configuration answers right, from
            other samples than these.
        widest: As for the bet.

    Returns:
        The verdict.

    Raises:
        TuningError: The probability or the drop is out of its range.
    """
    check_probability(probability)
    if not -1 < max_accuracy_drop < 1:
        raise TuningError(f"the allowed accuracy drop must be between -1 and 1; got {max_accuracy_drop:g}")
    test = BettingTest(max_accuracy_drop, probability, len(records), discordance, widest)
    passed, first = 0, None
    for configuration in path:
        counts = discordant(records, configuration)
        first = first or counts
        if not test.passes(*counts):
            break
        passed += 1
    if passed:
        promise = Guarantee(max_accuracy_drop=max_accuracy_drop, probability=probability, samples=len(records))
        return TestOutcome(passed, promise)
    if first is None:
        return TestOutcome(0, None, "there is no configuration to test beside the backbone alone")
    needed = samples_needed(first, max_accuracy_drop, probability)
    drop = (first[0] - first[1]) / len(records)
    reason = (
        f"{len(records)} calibration samples, on which the safest configuration loses {drop:.4f}, do not show that it "
        f"loses at most {max_accuracy_drop:g} with probability {probability:g}; "
        + (f"about {needed} would be needed" if needed else "no number of such samples would: allow a larger drop")
    )
    return TestOutcome(0, None, reason, needed)


def test_sequence(
    search: Search, plain: Sequence[Configuration], samples: int, drops: Sequence[float], optimism: Sequence[float]
) -> tuple[list[Configuration], float]:
    """Make configurations for the tests of some drops, from the safest to the boldest, on the search samples alone.

    Args:
        search: The search.
        plain: What it found for each allowed drop.
        samples: How many calibration samples there will be.
        drops: The allowed drops.
        growth: The search's optimism, per drop.

    Returns:
        The path, each cheaper than the one before, and the expected discordance of its configurations with the
        backbone.
    """
    shares, levels = [], []
    for configuration, drop, more in zip(plain, drops, optimism, strict=True):
        worse, better, same = discordant(search.records, configuration)
        shares.append(max(worse + better, 1) / (worse + better + same))
        levels.append(drop - more - np.sqrt(shares[-1] / samples) * np.linspace(_SAFEST, 0.0, _PATH_STEPS))
    path: list[Configuration] = []
    cost = np.inf
    for found in search.run([Goal(max_accuracy_drop=float(each)) for each in np.unique(np.clip(levels, -1, 1))]):
        if found is not None and found.stages:
            configuration = search.configuration(found)
            mean = evaluate(search.records, configuration).cost
            if mean < cost:
                path.append(configuration)
                cost = mean
    # bets go with the inverse square root of the discordance: the middle of what they would be for each drop alone
    return path, float(np.exp(np.mean(np.log(shares))))


def certify_boldest(
    search: Search,
    plain: Sequence[Configuration],
    calibration: Records,
    drops: Sequence[float],
    probability: float,
    optimism: Sequence[float],
) -> list[tuple[Configuration, Guarantee | None, str]]:
    """Find the boldest configuration whose drop can be promised, for each of some drops.

    All drops share one path and bet alike, so that where two pass the one with the larger drop is not dearer on the
    samples searched. Each promise holds with its probability by itself.

    Args:
        search: The search.
        plain: What it found for each allowed drop.
        calibration: Samples that neither search nor report uses.
        drops: The allowed drops.
        probability: That of each promise, in (0, 1).
        growth: The search's optimism, per drop.

    Returns:
        Per drop the configuration, its promise and an empty reason; or the plain one, None and the reason.

    Raises:
        TuningError: The probability or a drop is out of its range.
    """
    path, discordance = test_sequence(search, plain, len(calibration), drops, optimism)
    made = []
    for configuration, drop in zip(plain, drops, strict=True):
        verdict = fixed_sequence_test(
            calibration,
            path,
            max_accuracy_drop=drop,
            probability=probability,
            discordance=discordance,
            widest=max(map(abs, drops)),
        )
        if verdict.guarantee is None:
            made.append((configuration, None, verdict.reason))
        else:
            made.append((path[verdict.passed - 1], verdict.guarantee, ""))
    return made


def samples_needed(counts: tuple[int, int, int], allowed: float, probability: float) -> int | None:
    """Return about how many samples with such shares would pass the test.

    Args:
        counts: (worse, better, same).
        allowed: The allowed drop, in (-1, 1).
        probability: In (0, 1).

    Returns:
        The number, None if the drop seen is not below the allowed one.
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
        if high > 1e12:
            return None
    low = high / 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return int(np.ceil(high))


def check_probability(probability: float) -> None:
    """Check a promise's probability.

    Args:
        probability: What came in.

    Raises:
        TuningError: It is not in (0, 1).
    """
    if not 0 < probability < 1:
        raise TuningError(
            f"the guarantee's probability must be between 0 and 1, 0.95 for instance; got {probability:g}"
        )
