"""Verdicts on a finished chain: a saver alone is better, nobody gets to its end, or one class pays for all others."""

from collections.abc import Sequence

import numpy as np

from ..chain.group_losses import group_losses
from ..guarantee.drop_checks import exceeds, mean_error
from ..points.operating_point import BACKBONE, OperatingPoint
from ..records import Records

#: A class that loses this many times the allowed drop is named.
MAX_CLASS_DROPS = 5.0


def better_alone(calibration: Records, test: Records) -> str | None:
    """Say which saver had better be deployed alone.

    A saver is looked at that costs less than the backbone and is right at least as often, on calibration samples; of
    several, the one that is right most often there. It is named only if test samples, which decided nothing, agree.

    Args:
        calibration: Records of all stages on the samples that were searched.
        test: Records of the same stages on other samples.

    Returns:
        One sentence with the paired difference on test samples and its standard error; None if there is no such saver.
    """
    name = best_alone(calibration)
    if name is None:
        return None
    best, answers = calibration.index(name), _correct(test)
    cost = calibration.own_cost[best] / calibration.baseline_cost
    difference = answers[best].astype(float) - answers[-1]
    points, error = 100 * difference.mean(), 100 * mean_error(difference)
    if points < 0:
        return None
    is_better = f"is {points:.1f} ± {error:.1f} points better than" if points > 0 else "is right as often as"
    return (
        f"{name} alone {is_better} the backbone at {cost:.2g} of its cost, on {len(test)} test samples: deploy it alone"
    )


def best_alone(calibration: Records) -> str | None:
    """Return the saver that is right most often of those that cost less than the backbone and are right as often.

    Args:
        calibration: Records of all stages on the samples that were searched.

    Returns:
        Its stage name, the cheaper one of two that are as good; None if there is none.
    """
    correct = _correct(calibration).mean(axis=1)
    able = [
        index
        for index, kind in enumerate(calibration.kinds)
        if kind == "saver" and calibration.own_cost[index] < calibration.baseline_cost and correct[index] >= correct[-1]
    ]
    if not able:
        return None
    return calibration.stages[max(able, key=lambda index: (correct[index], -calibration.own_cost[index]))]


def _correct(records: Records) -> np.ndarray:
    """Which stage is right on which sample, bool (stages, N)."""
    return records.topk_classes[:, :, 0] == records.truth


def unreached(points: Sequence[OperatingPoint], stages: Sequence[str]) -> str | None:
    """Say which stages no test sample gets to, whatever the operating point.

    Args:
        points: With their exit rates on test samples.
        stages: All stages in the file, in chain order, the final last.

    Returns:
        One sentence; None if some sample gets to the final stage, or there are no points.
    """
    rates = [max((point.exit_rates.get(stage, 0.0) for point in points), default=1.0) for stage in stages]
    last = max(index for index, rate in enumerate(rates) if rate > 0)
    if last == len(stages) - 1:
        return None
    behind = ", ".join(stages[last + 1 :])
    return (
        f"at every operating point all {points[0].samples} test samples leave at '{stages[last]}' at the latest: what "
        f"is behind it ({behind}) is in the file for inputs that are less sure, and for the point '{BACKBONE}'; "
        "`export.drop_unreached: true` leaves it out where no calibration sample gets there either"
    )


def class_losses(
    points: Sequence[OperatingPoint], test: Records, backbone: np.ndarray, labels: Sequence[str]
) -> list[str]:
    """Name the classes that lose far more than all samples may together.

    Args:
        points: Those with an allowed drop are looked at.
        test: Records of the chain on test samples; samples without a label do not count.
        backbone: int (N,), the backbone's answers on these samples.
        labels: Names of the classes, in the order of the logits.

    Returns:
        One sentence for each point at which some class loses more than five times the allowed drop, and more than two
        standard errors: with the class that loses most.
    """
    known, found = test.labels >= 0, list[str]()
    if not known.any():
        return found
    labelled = test.take(known).with_reference((backbone == test.labels)[known])
    for point in points:
        allowed = point.goal.max_accuracy_drop if point.goal else None
        if allowed is None:
            continue
        losses = []
        for label, each in group_losses(labelled, point.configuration).items():
            drop, error = float(each.mean()), mean_error(each)
            if drop > MAX_CLASS_DROPS * allowed and exceeds(drop, 0.0, error, len(each)):
                losses.append((drop, error, len(each), labels[label]))
        if losses:
            drop, error, samples, name = max(losses)
            others = f"; so do {len(losses) - 1} other classes" if len(losses) > 1 else ""
            found.append(
                f"{point.name}: class '{name}' loses {100 * drop:.1f} ± {100 * error:.1f} points on its {samples} test "
                f"samples, more than five times the {100 * allowed:g} allowed over all classes{others}"
            )
    return found
