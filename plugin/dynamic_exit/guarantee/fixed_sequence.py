"""Fixed-sequence testing: configurations in a fixed order are tested until one fails."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.group_losses import group_losses
from ..chain.thresholds import Configuration
from ..errors import TuningError
from ..points.parts import Guarantee
from ..records import Records
from .betting_test import DISCORDANCE, BettingTest, Losses, samples_needed


@dataclass(frozen=True)
class Expected:
    """What is expected of losses before calibration samples are looked at. Wrong guesses cost power, never validity.

    Attributes:
        discordance: The mean square of losses: the share of samples that only one of backbone and configuration
            answers correctly.
        widest: As for `BettingTest`.
        by_group: The mean square within each group.
    """

    discordance: float = DISCORDANCE
    widest: float | None = None
    by_group: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TestOutcome:
    """The outcome of a sequence of tests.

    Attributes:
        passed: How many configurations passed, from the safest on.
        guarantee: The guarantee for the boldest that passed, or None.
        reason: Why there is none; empty if there is one.
        samples_needed: About how many calibration samples the safest would need to pass; None if none would do.
    """

    __test__ = False  # pytest collects classes by this name

    passed: int
    guarantee: Guarantee | None
    reason: str = ""
    samples_needed: int | None = None


def count_losses(records: Records, configuration: Configuration) -> Losses:
    """Count the paired losses of a configuration below the backbone.

    Args:
        records: Samples; where a label is unknown, the backbone's answer counts as correct.
        configuration: What to compare.

    Returns:
        What each answer is worth less than the backbone's, over the most that it can be.
    """
    return Losses.of(evaluate(records, configuration).losses / records.risk.largest)


class _Limit(NamedTuple):
    """One limit on a mean loss that a guarantee is about.

    Attributes:
        of: What of, after "samples"; empty for all.
        allowed: The largest mean loss.
        losses: Over the scale.
        discordance: Their expected mean square.
        scale: The most that one answer can lose.
    """

    of: str
    allowed: float
    losses: Losses
    discordance: float
    scale: float

    def failure(self, probability: float, widest: float | None) -> TestOutcome | None:
        """Return why the limit is not shown to hold; None if it is."""
        allowed, samples = self.allowed / self.scale, int(self.losses.samples)
        widest = None if widest is None else widest / self.scale
        if samples and BettingTest(allowed, probability, samples, self.discordance, widest).passes(self.losses):
            return None
        if not samples:
            return TestOutcome(0, None, f"no calibration sample is{self.of}")
        needed = samples_needed(self.losses, allowed, probability)
        reason = (
            f"{samples} calibration samples{self.of}, on which the safest configuration loses "
            f"{self.losses.mean * self.scale:.4f}, do not show that it loses at most {self.allowed:g} with probability "
            f"{probability:g}; "
            + (f"about {needed} would be needed" if needed else "no number of such samples would: allow a larger drop")
        )
        return TestOutcome(0, None, reason, needed)


def _limits(
    records: Records, configuration: Configuration, allowed: float, max_class_drop: float | None, expected: Expected
) -> Iterator[_Limit]:
    scale = records.risk.largest
    yield _Limit("", allowed, count_losses(records, configuration), expected.discordance, scale)
    if max_class_drop is not None:
        what, found = "class" if records.groups is None else "group", group_losses(records, configuration)
        # a class that no sample is of may lose anything; which groups there are, samples alone say
        classes = range(records.classes) if records.groups is None else ()
        for group in sorted({*found, *expected.by_group, *classes}):
            losses = Losses.of(found.get(group, np.empty(0)))
            share = expected.by_group.get(group, DISCORDANCE)
            yield _Limit(f" of {what} {group}", max_class_drop, losses, share, 1.0)


def fixed_sequence_test(
    records: Records,
    sequence: Sequence[Configuration],
    *,
    max_accuracy_drop: float,
    probability: float,
    max_class_drop: float | None = None,
    expected: Expected = Expected(),
) -> TestOutcome:
    """Test configurations from the safest to the boldest; the last that passes gets the guarantee.

    A configuration passes if every one of its limits does, each at the full level: where one of them does not hold, it
    alone passes with no more than the allowed probability (an intersection-union test), so that nothing has to be
    shared out.

    Args:
        records: Calibration samples that neither search nor report uses.
        sequence: Configurations in an order that was fixed without these samples.
        max_accuracy_drop: The allowed drop of accuracy, or increase of the records' risk, in (-1, 1).
        probability: That of the guarantee, in (0, 1).
        max_class_drop: The allowed drop of every class or group; none if None.
        expected: From other samples than these.

    Returns:
        The outcome.

    Raises:
        TuningError: The probability or the drop is out of its range.
    """
    check_probability(probability)
    if not -1 < max_accuracy_drop < 1:
        raise TuningError(f"the allowed accuracy drop must be between -1 and 1; got {max_accuracy_drop:g}")
    passed = 0
    for configuration in sequence:
        limits = _limits(records, configuration, max_accuracy_drop, max_class_drop, expected)
        failure = next(filter(None, (limit.failure(probability, expected.widest) for limit in limits)), None)
        if failure and not passed:
            return failure
        if failure:
            break
        passed += 1
    if not passed:
        return TestOutcome(0, None, "there is no configuration to test beside the backbone alone")
    key = "max_accuracy_drop" if records.risk.name == "accuracy" else "max_risk_increase"
    promise = {key: max_accuracy_drop, "max_class_drop": max_class_drop}
    return TestOutcome(
        passed, Guarantee.model_validate({**promise, "probability": probability, "samples": len(records)})
    )


def check_probability(probability: float) -> None:
    """Check the probability of a guarantee.

    Args:
        probability: What came in.

    Raises:
        TuningError: It is not in (0, 1).
    """
    if not 0 < probability < 1:
        raise TuningError(
            f"the guarantee's probability must be between 0 and 1, 0.95 for instance; got {probability:g}"
        )
