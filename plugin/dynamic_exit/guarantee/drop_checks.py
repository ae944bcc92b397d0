"""Operating points compared with held-out samples: standard errors, and whether a point keeps its allowed drop."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.group_losses import group_losses
from ..chain.thresholds import Configuration
from ..points.operating_point import OperatingPoints
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
    return mean_error(before.astype(np.float64) - after)


def mean_error(losses: np.ndarray) -> float:
    """Return the standard error of the mean of losses (N,)."""
    return float(losses.std() / math.sqrt(len(losses)))


@dataclass(frozen=True)
class GroupCheck:
    """The class or group that exceeds a limit on drops by most standard errors.

    Attributes:
        what: ``class 3``, for instance.
        samples: Number of its samples.
        drop: What it loses, as a share.
        error: Standard error of the drop.
        allowed: The limit.
    """

    what: str
    samples: int
    drop: float
    error: float
    allowed: float

    @property
    def exceeds(self) -> bool:
        """Whether the drop exceeds the limit by more than two standard errors."""
        return exceeds(self.drop, self.allowed, self.error, self.samples)

    @property
    def warning(self) -> str:
        """One sentence about a drop that exceeds the limit."""
        return (
            f"{self.what} loses {100 * self.drop:.1f} ± {100 * self.error:.1f} points on its {self.samples} test "
            f"samples, more than two standard errors beyond the allowed {100 * self.allowed:g}; its calibration "
            "samples are too few, or unlike the test samples"
        )

    @classmethod
    def of(cls, records: Records, configuration: Configuration, allowed: float) -> "GroupCheck":
        """Check every class or group of records."""
        what = "class" if records.groups is None else "group"
        checks = [
            cls(f"{what} {group}", len(losses), float(losses.mean()), mean_error(losses), allowed)
            for group, losses in group_losses(records, configuration).items()
        ]
        return max(checks, key=lambda check: (check.drop - allowed) / max(check.error, 1 / check.samples))


@dataclass(frozen=True)
class DropCheck:
    """The accuracy drop of one operating point on held-out samples, and what its goal is about.

    Attributes:
        name: Name of the point.
        samples: Number of samples.
        accuracy: 0..1.
        accuracy_drop: Accuracy of the reference model less this one.
        drop_error: Standard error of the drop.
        allowed: The drop, or increase of risk, that the point was tuned for; None if its goal is a budget.
        risk: Name of the risk of the goal.
        risk_increase: Over that of the reference model; the accuracy drop if the risk is accuracy.
        risk_error: Standard error of the increase.
        groups: The limit on what classes or groups lose; None without one.
    """

    name: str
    samples: int
    accuracy: float
    accuracy_drop: float
    drop_error: float
    allowed: float | None
    risk: str
    risk_increase: float
    risk_error: float
    groups: GroupCheck | None = None

    @property
    def exceeds_allowed_drop(self) -> bool:
        """Whether a drop exceeds the allowed one by more than two standard errors, of all samples or of a group."""
        return self._exceeds or (self.groups is not None and self.groups.exceeds)

    @property
    def _exceeds(self) -> bool:
        return self.allowed is not None and exceeds(self.risk_increase, self.allowed, self.risk_error, self.samples)

    @property
    def warning(self) -> str:
        """One sentence about a drop that exceeds the allowed one."""
        if not self._exceeds and self.groups:
            return f"{self.name}: {self.groups.warning}"
        drop, error, what = 100 * self.risk_increase, 100 * self.risk_error, ""
        if self.risk != "accuracy":
            what = f" of {self.risk}"
        return (
            f"{self.name}: it loses {drop:.1f} ± {error:.1f} points{what} on the {self.samples} test samples, more "
            f"than two standard errors beyond the allowed {100 * (self.allowed or 0.0):g}; "
            "calibration samples are too few, or unlike the test samples"
        )


def exceeds(drop: float, allowed: float, error: float, samples: int) -> bool:
    """Return whether a drop lies beyond the allowed one by more than two standard errors."""
    # where all samples agree the estimated error is 0; one sample that differs may have been missed by chance
    return drop - allowed > MAX_STANDARD_ERRORS * max(error, 1 / samples)


def check_drops(
    points: OperatingPoints,
    records: Records,
    allowed: Sequence[float | None] | None = None,
    reference: np.ndarray | None = None,
) -> list[DropCheck]:
    """Compare operating points with the drops that they were tuned for.

    Args:
        points: The points.
        records: Samples that neither training nor search has seen, judged by the risk of the goals.
        allowed: The allowed drop of each point, None for another goal; the goals of the points by default.
        reference: bool (N,): where the model that drops are relative to is correct; the backbone by default.

    Returns:
        One check per point.
    """
    if allowed is None:
        goals = [point.goal for point in points.points]
        allowed = [goal.allowed_drop if goal and goal.budget is None else None for goal in goals]
    truth = records.labelled_truth
    before = records.topk_classes[-1, :, 0] == truth if reference is None else reference
    checks = []
    for point, drop_limit in zip(points.points, allowed, strict=True):
        figures = evaluate(records, point.configuration)
        correct = figures.prediction == truth
        drop, error = float(before.mean()) - figures.accuracy, paired_standard_error(before, correct)
        risk = records.risk.name, figures.risk_increase, mean_error(figures.losses)
        if records.risk.name == "accuracy":
            risk = "accuracy", drop, error
        limit = point.goal.max_class_drop if point.goal else None
        groups = None if limit is None else GroupCheck.of(records, point.configuration, limit)
        checks.append(DropCheck(point.name, len(records), figures.accuracy, drop, error, drop_limit, *risk, groups))
    return checks


def describe_unmet_requirements(
    points: OperatingPoints,
    *,
    exceeding: Sequence[str] = (),
    guarantee: bool = False,
    samples_differ: bool = False,
    required: Sequence[str] = (),
    unpromised: Sequence[str] = (),
) -> str:
    """Describe in one sentence which requirements were missed; empty if all were met.

    Args:
        points: The written points.
        exceeding: Names of the points that must keep their allowed drop on the test samples and do not.
        guarantee: Whether every point that allows a drop must have a guarantee.
        samples_differ: Whether test samples differ from those that guarantees are about.
        required: Names of points that must exist.
        unpromised: Names of further points without a guarantee, which is about another model than the backbone.
    """
    with_drop = [point for point in points.points if point.goal and point.goal.budget is None]
    promised = [point.name for point in with_drop if point.guarantee is not None]
    unmet = {
        "not reached: ": [name for name in required if name not in points.names],
        "more than the allowed drop lost on the test samples: ": list(exceeding),
        "no guarantee: ": [
            *(point.name for point in with_drop if guarantee and point.name not in promised),
            *(unpromised if guarantee else ()),
        ],
        "a guarantee for other samples than the test samples: ": promised if guarantee and samples_differ else [],
    }
    described = "; ".join(what + ", ".join(names) for what, names in unmet.items() if names)
    return f"what is required was missed: {described}" if described else ""
