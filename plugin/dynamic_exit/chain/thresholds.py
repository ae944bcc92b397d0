"""Thresholds of a chain: one number per stage before the final; a sample exits where its confidence is above it."""

from collections.abc import Sequence

import numpy as np

from ..errors import OperatingPointError
from .operating_point import OperatingPoint

#: The stage is not run and gives no evidence.
STAGE_OFF = float("inf")
#: The stage runs and no sample exits: no confidence is above it.
NEVER_EXIT = 1.0
#: Every sample exits: all confidences are above it.
ALWAYS_EXIT = -1.0


def check_thresholds(values: Sequence[float], chain: Sequence[str]) -> list[float]:
    """Return thresholds as floats.

    Args:
        values: One per stage.
        chain: Names of the stages before the final.

    Raises:
        OperatingPointError: There are more or fewer thresholds than stages, or one of them is NaN.
    """
    values = [float(value) for value in values]
    if len(values) != len(chain):
        raise OperatingPointError(
            f"{len(values)} thresholds came in for a chain of {len(chain)}; give one for each of "
            f"{', '.join(chain) or 'no stage'}"
        )
    if any(value != value for value in values):
        raise OperatingPointError(f"a threshold must be a number; got {values} for {', '.join(chain)}")
    return values


def point_thresholds(point: OperatingPoint, stages: Sequence[str]) -> np.ndarray:
    """Return the thresholds of an operating point in the order of a chain.

    Args:
        point: The point.
        stages: Names of the stages before the final.

    Returns:
        float32 (S,); `STAGE_OFF` for stages that the point does not use.

    Raises:
        OperatingPointError: The point uses a stage that the chain lacks.
    """
    used = {stage.stage: stage.threshold for stage in point.stages}
    missing = set(used) - set(stages)
    if missing:
        raise OperatingPointError(
            f"operating point '{point.name}' uses the stage '{sorted(missing)[0]}', which the file lacks; export anew"
        )
    return np.asarray([used.get(stage, STAGE_OFF) for stage in stages], np.float32)
