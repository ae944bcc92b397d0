"""Whether two sets of samples look alike to the stages that answer them."""

from typing import NamedTuple

from ..records import Records

#: Samples differ where chance would make them differ as much with less than this probability.
SIGNIFICANCE = 0.001


class SampleShift(NamedTuple):
    """The stage whose confidences differ most between two sets of samples.

    Attributes:
        stage: Its name.
        distance: Largest difference of the two shares of samples that exceed a confidence, in 0..1.
        probability: With which chance alone makes confidences of some stage differ as much, in 0..1.
    """

    stage: str
    distance: float
    probability: float

    @property
    def warning(self) -> str:
        """One sentence on calibration and test samples that differ."""
        return (
            f"calibration and test samples differ: at some confidence of stage '{self.stage}' the shares of them that "
            f"exceed it are {100 * self.distance:.0f} points apart (two-sample Kolmogorov-Smirnov test, p = "
            f"{self.probability:.1g}), so that what was tuned or guaranteed on the former need not hold for the latter"
        )


def find_shift(records: Records, others: Records) -> SampleShift | None:
    """Compare the confidences of every stage on two sets of samples.

    Each stage is put to a two-sample Kolmogorov-Smirnov test, and probabilities are multiplied by the number of stages
    (Bonferroni). Labels are not looked at.

    Args:
        records: Of some samples.
        others: Of the same stages on samples drawn apart from these.

    Returns:
        The shift of the stage with the smallest probability; None where none is below `SIGNIFICANCE`.
    """
    from scipy.stats import ks_2samp  # takes most of a second to import

    shifts = []
    for stage, one, other in zip(
        records.stages, records.topk_probabilities[:, :, 0], others.topk_probabilities[:, :, 0], strict=True
    ):
        found = ks_2samp(one, other, method="asymp")
        shifts.append(SampleShift(stage, float(found.statistic), min(1.0, len(records.stages) * float(found.pvalue))))
    most = min(shifts, key=lambda shift: shift.probability)
    return most if most.probability < SIGNIFICANCE else None
