"""Operating points compared with held-out samples: standard errors, and whether a point keeps its allowed drop."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.operating_point import OperatingPoints
from ..records import Records

#: A drop beyond the allowed one by more than this many standard errors contradicts it.
MAX_STANDARD_ERRORS = 2.0


def standard_error(share: float, samples: int) -> float:
    """Return the standard error of a share, such as an accuracy.

    Args:
        share: 0..1.
        samples: Number of samples it was counted on, at least 1.
    """
    return math.sqrt(max(0.0, share * (1 - share)) / samples)


def with_standard_error(figures: Mapping[str, Any], samples: int, of: str = "accuracy") -> dict[str, Any]:
    """Return figures with the standard error of one of them added; None if that figure was not measured.

    Args:
        figures: By name.
        samples: Number of samples they were counted on.
        of: Name of the share.
    """
    share = figures[of]
    return {**figures, f"{of}_standard_error": None if share is None else standard_error(share, samples)}


def paired_standard_error(before: np.ndarray, after: np.ndarray) -> float:
    """Return the standard error of the difference of two accuracies on the same samples.

    Only samples that exactly one of the two models classifies correctly contribute.

    Args:
        before: bool (N,): where the first model is correct.
        after: bool (N,): where the second model is correct.

    Returns:
        sqrt(b + c - (b - c)² / N) / N for b samples lost and c gained; 0 if there are none of either.
    """
    lost, gained, samples = int((before & ~after).sum()), int((after & ~before).sum()), len(before)
    return math.sqrt(max(0.0, lost + gained - (lost - gained) ** 2 / samples)) / samples


@dataclass(frozen=True)
class DropCheck:
    """The accuracy drop of one operating point on held-out samples.

    Attributes:
        name: Name of the point.
        samples: Number of samples.
        accuracy: 0..1.
        accuracy_drop: Accuracy of the reference model less this one.
        drop_error: Standard error of the drop.
        allowed: The drop that the point was tuned for; None if its goal is a budget.
    """

    name: str
    samples: int
    accuracy: float
    accuracy_drop: float
    drop_error: float
    allowed: float | None

    @property
    def exceeds_allowed_drop(self) -> bool:
        """Whether the drop exceeds the allowed one by more than two standard errors."""
        if self.allowed is None:
            return False
        # where all samples agree the estimated error is 0; one sample that differs may have been missed by chance
        error = max(self.drop_error, 1 / self.samples)
        return self.accuracy_drop - self.allowed > MAX_STANDARD_ERRORS * error

    @property
    def warning(self) -> str:
        """One sentence about a drop that exceeds the allowed one."""
        drop, error = 100 * self.accuracy_drop, 100 * self.drop_error
        return (
            f"{self.name}: it loses {drop:.1f} ± {error:.1f} points on the {self.samples} test samples, more than two "
            f"standard errors beyond the allowed {100 * (self.allowed or 0.0):g}; "
            "calibration samples are too few, or unlike the test samples"
        )


def check_drops(
    points: OperatingPoints,
    records: Records,
    allowed: Sequence[float | None] | None = None,
    reference: np.ndarray | None = None,
) -> list[DropCheck]:
    """Compare operating points with the drops that they were tuned for.

    Args:
        points: The points.
        records: Samples that neither training nor search has seen.
        allowed: The allowed drop of each point, None for another goal; the goals of the points by default.
        reference: bool (N,): where the model that drops are relative to is correct; the backbone by default.

    Returns:
        One check per point.
    """
    if allowed is None:
        allowed = [point.goal.max_accuracy_drop if point.goal else None for point in points.points]
    before = records.topk_classes[-1, :, 0] == records.truth if reference is None else reference
    checks = []
    for point, drop_limit in zip(points.points, allowed, strict=True):
        correct = evaluate(records, point.configuration).prediction == records.truth
        accuracy = float(correct.mean())
        drop, error = float(before.mean()) - accuracy, paired_standard_error(before, correct)
        checks.append(DropCheck(point.name, len(records), accuracy, drop, error, drop_limit))
    return checks


def describe_unmet_requirements(
    points: OperatingPoints,
    *,
    exceeding: Sequence[str] = (),
    guarantee: bool = False,
    samples_differ: bool = False,
    required: Sequence[str] = (),
) -> str:
    """Describe in one sentence which requirements were missed; empty if all were met.

    Args:
        points: The written points.
        exceeding: Names of the points that must keep their allowed drop on the test samples and do not.
        guarantee: Whether every point that allows a drop must have a guarantee.
        samples_differ: Whether test samples differ from those that guarantees are about.
        required: Names of points that must exist.
    """
    with_drop = [point for point in points.points if point.goal and point.goal.max_accuracy_drop is not None]
    promised = [point.name for point in with_drop if point.guarantee is not None]
    unmet = {
        "not reached: ": [name for name in required if name not in points.names],
        "more than the allowed drop lost on the test samples: ": list(exceeding),
        "no guarantee: ": [point.name for point in with_drop if guarantee and point.name not in promised],
        "a guarantee for other samples than the test samples: ": promised if guarantee and samples_differ else [],
    }
    described = "; ".join(what + ", ".join(names) for what, names in unmet.items() if names)
    return f"what is required was missed: {described}" if described else ""
