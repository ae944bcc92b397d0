"""The boldest configuration with a guarantee, for each of several allowed drops."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.goal import Goal
from ..chain.point_parts import Guarantee
from ..chain.thresholds import Configuration
from ..records import Records
from .fixed_sequence import count_discordant, fixed_sequence_test

# the sequence goes from so many standard errors of the drop below the allowed one up to it, in so many steps
_SAFEST_STANDARD_ERRORS = 6.0
_SEQUENCE_STEPS = 19


class ConfigurationSearch(Protocol):
    """What the guarantee asks of a search."""

    records: Records

    def configurations(self, goals: Sequence[Goal]) -> list[Configuration | None]:
        """Return the best configuration per goal; None where there is none beside the backbone alone."""
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
    drops: Sequence[float],
    optimism: Sequence[float],
) -> tuple[list[Configuration], float]:
    """Make configurations for the tests of several drops, from the safest to the boldest, on the search samples alone.

    Args:
        search: The search.
        plain: What it found for each allowed drop.
        samples: Number of calibration samples.
        drops: The allowed drops.
        optimism: The optimism of the search, per drop.

    Returns:
        The sequence, each configuration cheaper than the one before, and their expected discordance with the backbone.
    """
    shares, levels = [], []
    for configuration, drop, margin in zip(plain, drops, optimism, strict=True):
        worse, better, same = count_discordant(search.records, configuration)
        shares.append(max(worse + better, 1) / (worse + better + same))
        below = np.sqrt(shares[-1] / samples) * np.linspace(_SAFEST_STANDARD_ERRORS, 0.0, _SEQUENCE_STEPS)
        levels.append(drop - margin - below)
    sequence: list[Configuration] = []
    cost = np.inf
    goals = [Goal(max_accuracy_drop=float(each)) for each in np.unique(np.clip(levels, -1, 1))]
    for found in search.configurations(goals):
        mean = evaluate(search.records, found).cost if found is not None else np.inf
        if found is not None and mean < cost:
            sequence.append(found)
            cost = mean
    # bets go with the inverse square root of the discordance: the middle of what they would be for each drop alone
    return sequence, float(np.exp(np.mean(np.log(shares))))


def certify_boldest(
    search: ConfigurationSearch,
    plain: Sequence[Configuration],
    calibration: Records,
    drops: Sequence[float],
    probability: float,
    optimism: Sequence[float],
) -> list[Certificate]:
    """Find the boldest configuration with a guarantee, for each of several drops.

    All drops share one sequence and bet alike, so where two pass, the one with the larger drop does not cost more on
    the samples searched. Each guarantee holds with its probability by itself.

    Args:
        search: The search.
        plain: What it found for each allowed drop.
        calibration: Samples that neither search nor report uses.
        drops: The allowed drops.
        probability: That of each guarantee, in (0, 1).
        optimism: The optimism of the search, per drop.

    Returns:
        One certificate per drop.

    Raises:
        TuningError: The probability or a drop is out of its range.
    """
    sequence, share = make_test_sequence(search, plain, len(calibration), drops, optimism)
    widest = max(map(abs, drops))
    certificates = []
    for configuration, drop in zip(plain, drops, strict=True):
        outcome = fixed_sequence_test(
            calibration,
            sequence,
            max_accuracy_drop=drop,
            probability=probability,
            discordance=share,
            widest=widest,
        )
        boldest = sequence[outcome.passed - 1] if outcome.guarantee else configuration
        certificates.append(Certificate(boldest, outcome.guarantee, outcome.reason))
    return certificates
