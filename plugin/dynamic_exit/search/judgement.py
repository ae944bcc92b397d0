"""What held-out samples say of operating points: standard errors, and promises that these samples contradict."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.operating_point import OperatingPoints
from ..records import Records
from .optimizer import split

#: A drop this many standard errors beyond the allowed one contradicts it.
EVIDENCE = 2.0


def standard_error(share: float, samples: int) -> float:
    """Return the standard error of a share, such as an accuracy.

    Args:
        share: 0..1.
        samples: How many it was counted on, at least 1.
    """
    return math.sqrt(max(0.0, share * (1 - share)) / samples)


def with_error(figures: Mapping[str, Any], samples: int, of: str = "accuracy") -> dict[str, Any]:
    """Return figures with the standard error of one of them beside it, None where that was not measured.

    Args:
        figures: By name.
        samples: How many they were counted on.
        of: Name of the share whose error is meant.
    """
    share = figures[of]
    return {**figures, f"{of}_standard_error": None if share is None else standard_error(share, samples)}


def paired_error(before: np.ndarray, after: np.ndarray) -> float:
    """Return the standard error of the difference of two accuracies on the same samples.

    Only samples on which just one of both is right count.

    Args:
        before: bool (N,): where the one is right.
        after: bool (N,): where the other is.

    Returns:
        sqrt(b + c - (b - c)² / N) / N for b samples lost and c gained; 0 where there are none of either.
    """
    lost, gained, samples = int((before & ~after).sum()), int((after & ~before).sum()), len(before)
    return math.sqrt(max(0.0, lost + gained - (lost - gained) ** 2 / samples)) / samples


@dataclass(frozen=True)
class Judgement:
    """What held-out samples say of one operating point.

    Attributes:
        name: The point's.
        samples: How many there are.
        accuracy: 0..1.
        accuracy_drop: The accuracy that it is held against less this one.
        drop_error: The drop's standard error.
        allowed: The drop that the point was tuned for; None where its goal is another.
    """

    name: str
    samples: int
    accuracy: float
    accuracy_drop: float
    drop_error: float
    allowed: float | None

    @property
    def contradicted(self) -> bool:
        """Whether the drop lies beyond the allowed one by more than two standard errors."""
        if self.allowed is None:
            return False
        # samples that all agree show no error; one that did not would, and it may have been missed by chance
        error = max(self.drop_error, 1 / self.samples)
        return self.accuracy_drop - self.allowed > EVIDENCE * error

    @property
    def note(self) -> str:
        """The contradiction in one sentence."""
        drop, error = 100 * self.accuracy_drop, 100 * self.drop_error
        return (
            f"{self.name}: it loses {drop:.1f} ± {error:.1f} points on the {self.samples} test samples, more than two "
            f"standard errors beyond the allowed {100 * self.allowed:g}; "
            "calibration samples are too few, or unlike the test samples"
        )


def judge(
    points: OperatingPoints,
    records: Records,
    allowed: Sequence[float | None] | None = None,
    against: np.ndarray | None = None,
) -> list[Judgement]:
    """Hold operating points against the drops that they were tuned for.

    Args:
        points: The points.
        records: Samples that neither training nor search has seen.
        allowed: The allowed drop of each point, None for another goal; by default what the points' goals say.
        against: bool (N,): where the model is right that drops count against; by default the backbone of the records.

    Returns:
        One judgement for each point.
    """
    if allowed is None:
        allowed = [point.goal.max_accuracy_drop if point.goal else None for point in points.points]
    before = records.topk_classes[-1, :, 0] == records.truth if against is None else against
    found = []
    for point, most in zip(points.points, allowed, strict=True):
        correct = evaluate(records, point.configuration).prediction == records.truth
        accuracy = float(correct.mean())
        drop = float(before.mean()) - accuracy
        found.append(Judgement(point.name, len(records), accuracy, drop, paired_error(before, correct), most))
    return found


def judge_file(
    records_path: str | os.PathLike, points: OperatingPoints, search_fraction: float, guarantee: bool, seed: int
) -> list[Judgement]:
    """Hold what `tune_file` found against the samples that it reported on.

    Args:
        records_path: The records file that was tuned.
        points: What was found.
        search_fraction: Share of the samples that was searched.
        guarantee: Whether samples were kept for a guarantee's test.
        seed: Decided which samples were which.
    """
    records = Records.read(records_path)
    return judge(points, records.take(split(len(records), search_fraction, guarantee, seed)[2]))


def missed(
    points: OperatingPoints, *, contradicted: Sequence[str] = (), guarantee: bool = False, wanted: Sequence[str] = ()
) -> str:
    """Return what is required and was missed, in one sentence; nothing where all was reached.

    Args:
        points: As they are written.
        contradicted: Names of those that must keep their allowed drop on the test samples, and do not.
        guarantee: Whether every point that allows a drop must have a guarantee.
        wanted: Names of points that must be there.
    """
    promising = [point for point in points.points if point.goal and point.goal.max_accuracy_drop is not None]
    found = {
        "not reached: ": [name for name in wanted if name not in points.names],
        "more than the allowed drop lost on the test samples: ": list(contradicted),
        "no guarantee: ": [point.name for point in promising if guarantee and point.guarantee is None],
    }
    said = "; ".join(what + ", ".join(names) for what, names in found.items() if names)
    return f"what is required was missed: {said}" if said else ""
