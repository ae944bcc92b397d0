"""The verdict where a saver alone is better than the backbone that it was to save."""

import numpy as np

from ..records import Records


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
    savers = [index for index, kind in enumerate(calibration.kinds) if kind == "saver"]
    costs = calibration.own_cost / calibration.prefix_cost[-1]
    correct = _correct(calibration).mean(axis=1)
    able = [index for index in savers if costs[index] < 1 and correct[index] >= correct[-1]]
    if not able:
        return None
    best = max(able, key=lambda index: (correct[index], -costs[index]))
    answers = _correct(test)
    difference = answers[best].astype(float) - answers[-1]
    points, error = 100 * difference.mean(), 100 * difference.std() / np.sqrt(len(difference))
    if points < 0:
        return None
    is_better = f"is {points:.1f} ± {error:.1f} points better than" if points > 0 else "is right as often as"
    return (
        f"{calibration.stages[best]} alone {is_better} the backbone at {costs[best]:.2g} of its cost, on {len(test)} "
        "test samples: deploy it alone"
    )


def _correct(records: Records) -> np.ndarray:
    """Which stage is right on which sample, bool (stages, N)."""
    return records.topk_classes[:, :, 0] == records.truth
