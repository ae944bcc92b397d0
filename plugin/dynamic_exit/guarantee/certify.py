"""The boldest configuration with a guarantee, for each of several allowed drops."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.group_losses import group_losses
from ..chain.thresholds import Configuration
from ..points.goal import Goal
from ..points.parts import Guarantee
from ..records import Records
from .fixed_sequence import Expected, count_losses, fixed_sequence_test

# the sequence goes from so many standard errors of the drop below the allowed one up to it, in so many steps
_SAFEST_STANDARD_ERRORS = 6.0
_SEQUENCE_STEPS = 19
# limits of classes take longer to keep
_STEPS_WITH_CLASSES = 9


class ConfigurationSearch(Protocol):
    """What the guarantee asks of a search."""

    @property
    def records(self) -> Records:
        """The samples searched."""
        ...

    def configurations(self, goals: Sequence[Goal], caution: Sequence[float]) -> list[Configuration | None]:
        """Return the best configuration per goal; None where there is none beside the backbone alone.

        Args:
            goals: What to reach.
            caution: How many standard errors to stay below limits of classes, per goal.
        """
        ...


class Certificate(NamedTuple):
    """A configuration for an allowed drop, with its guarantee or the reason why there is none.

    Attributes:
        configuration: The boldest that passed, or the plain one.
        guarantee: None if none passed.
        reason: Empty if there is a guarantee.
    """

    configuration: Configuration
    guarantee: Guarantee | None
    reason: str


def make_test_sequence(
    search: ConfigurationSearch,
    plain: Sequence[Configuration],
    samples: int,
    goals: Sequence[Goal],
    optimism: Sequence[float],
) -> tuple[list[Configuration], Expected]:
    """Make configurations for the tests of several goals, from the safest to the boldest, on the search samples alone.

    Args:
        search: The search.
        plain: What it found for each goal.
        samples: Number of calibration samples.
        goals: What is allowed; no budgets.
        optimism: The optimism of the search, per goal.

    Returns:
        The sequence, each configuration cheaper than the one before, and what is expected of their losses.
    """
    shares, levels = [], dict[float, float]()
    for configuration, goal, margin in zip(plain, goals, optimism, strict=True):
        losses = count_losses(search.records.judged_by_labels, configuration)
        shares.append(max(losses.mean_square, 1 / losses.samples))
        error = np.sqrt(shares[-1] / samples) * search.records.risk.largest
        steps = _SEQUENCE_STEPS if goal.max_class_drop is None else _STEPS_WITH_CLASSES
        for errors in np.linspace(_SAFEST_STANDARD_ERRORS, 0.0, steps):
            level = float(np.clip(goal.allowed_drop - margin - errors * error, -1, 1))
            levels[level] = max(errors, levels.get(level, 0.0))
    sequence: list[Configuration] = []
    cost = np.inf
    order = sorted(levels)
    found = search.configurations([goals[0].allowing(each) for each in order], [levels[each] for each in order])
    for each in found:
        mean = evaluate(search.records, each).cost if each is not None else np.inf
        if each is not None and mean < cost:
            sequence.append(each)
            cost = mean
    # bets go with the inverse square root of the discordance: the middle of what they would be for each drop alone
    middle = float(np.exp(np.mean(np.log(shares))))
    widest = max(abs(goal.allowed_drop) for goal in goals)
    limited = goals[0].max_class_drop is not None
    by_group = _expected_by_group(search.records.judged_by_labels, plain[-1]) if limited else {}
    return sequence, Expected(middle, widest, by_group)


def _expected_by_group(records: Records, configuration: Configuration) -> dict[int, float]:
    found = group_losses(records, configuration)
    return {group: (float((losses**2).sum()) + 1) / (len(losses) + 1) for group, losses in found.items()}


def certify_boldest(
    search: ConfigurationSearch,
    plain: Sequence[Configuration],
    calibration: Records,
    goals: Sequence[Goal],
    probability: float,
    optimism: Sequence[float],
) -> list[Certificate]:
    """Find the boldest configuration with a guarantee, for each of several allowed drops.

    All drops share one sequence and bet alike, so where two pass, the one with the larger drop does not cost more on
    the samples searched. Each guarantee holds with its probability by itself, all of its limits together.

    Args:
        search: The search.
        plain: What it found for each goal.
        calibration: Samples that neither search nor report uses.
        goals: What is allowed; no budgets, all with the same limit on the drop of classes.
        probability: That of each guarantee, in (0, 1).
        optimism: The optimism of the search, per goal.

    Returns:
        One certificate per goal.

    Raises:
        TuningError: The probability or a drop is out of its range.
    """
    sequence, expected = make_test_sequence(search, plain, len(calibration), goals, optimism)
    certificates = []
    for configuration, goal in zip(plain, goals, strict=True):
        outcome = fixed_sequence_test(
            calibration,
            sequence,
            max_accuracy_drop=goal.allowed_drop,
            probability=probability,
            max_class_drop=goal.max_class_drop,
            expected=expected,
        )
        boldest = sequence[outcome.passed - 1] if outcome.guarantee else configuration
        certificates.append(Certificate(boldest, outcome.guarantee, outcome.reason))
    return certificates
