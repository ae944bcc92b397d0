"""Fixed-sequence testing: configurations in a fixed order are tested until one fails."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..chain.evaluation import evaluate
from ..chain.point_parts import Guarantee
from ..chain.thresholds import Configuration
from ..errors import TuningError
from ..records import Records
from .betting_test import DISCORDANCE, BettingTest, samples_needed


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


def count_discordant(records: Records, configuration: Configuration) -> tuple[int, int, int]:
    """Count the samples on which backbone and configuration differ.

    Args:
        records: Samples; where a label is unknown, the backbone's answer counts as correct.
        configuration: What to compare.

    Returns:
        (worse, better, same), which sum to the number of samples.
    """
    truth = records.truth
    baseline = records.topk_classes[-1, :, 0] == truth
    correct = evaluate(records, configuration).prediction == truth
    worse, better = int((baseline & ~correct).sum()), int((~baseline & correct).sum())
    return worse, better, len(records) - worse - better


def fixed_sequence_test(
    records: Records,
    sequence: Sequence[Configuration],
    *,
    max_accuracy_drop: float,
    probability: float,
    discordance: float = DISCORDANCE,
    widest: float | None = None,
) -> TestOutcome:
    """Test configurations from the safest to the boldest; the last that passes gets the guarantee.

    Args:
        records: Calibration samples that neither search nor report uses.
        sequence: Configurations in an order that was fixed without these samples.
        max_accuracy_drop: The allowed drop, in (-1, 1).
        probability: That of the guarantee, in (0, 1).
        discordance: The expected share of samples that only one of backbone and configuration answers correctly,
            from other samples than these.
        widest: As for `BettingTest`.

    Returns:
        The outcome.

    Raises:
        TuningError: The probability or the drop is out of its range.
    """
    check_probability(probability)
    if not -1 < max_accuracy_drop < 1:
        raise TuningError(f"the allowed accuracy drop must be between -1 and 1; got {max_accuracy_drop:g}")
    test = BettingTest(max_accuracy_drop, probability, len(records), discordance, widest)
    passed, first = 0, None
    for configuration in sequence:
        counts = count_discordant(records, configuration)
        first = first or counts
        if not test.passes(*counts):
            break
        passed += 1
    if passed:
        guarantee = Guarantee(max_accuracy_drop=max_accuracy_drop, probability=probability, samples=len(records))
        return TestOutcome(passed, guarantee)
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
