"""Thresholds of a chain: one number per stage before the final; a sample exits where its confidence is above it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import OperatingPointError, nearest
from .evidence import Evidence

#: The stage is not run and gives no evidence.
STAGE_OFF = float("inf")
#: The stage runs and no sample exits: no confidence is above it.
NEVER_EXIT = 1.0
#: Every sample exits: all confidences are above it.
ALWAYS_EXIT = -1.0


@dataclass(frozen=True)
class Configuration:
    """The stages in use before the final, with their thresholds.

    Attributes:
        stages: (name, threshold) in chain order. A sample exits at the first whose confidence is above its threshold,
            both in float32. A stage that is not named is off: it does not run and gives no evidence.
        fuse: How the answers of stages are combined; the name of a rule stands for that rule with the largest evidence
            as confidence.
    """

    stages: tuple[tuple[str, float], ...] = ()
    fuse: Evidence = Evidence()

    def __post_init__(self) -> None:
        object.__setattr__(self, "fuse", Evidence.of(self.fuse))

    @classmethod
    def from_array(
        cls, stages: Sequence[str], thresholds: Sequence[float] | np.ndarray, fuse: Evidence | str = "none"
    ) -> "Configuration":
        """Return the configuration of one threshold per stage, `STAGE_OFF` for those that are off."""
        pairs = zip(stages, map(float, thresholds), strict=True)
        return cls(tuple((name, value) for name, value in pairs if value != STAGE_OFF), Evidence.of(fuse))

    def as_array(self, stages: Sequence[str]) -> np.ndarray:
        """Return one threshold per stage, float32 (S,); `STAGE_OFF` for those that are off.

        Args:
            stages: Names of all stages before the final.

        Raises:
            OperatingPointError: A stage in use is not among them.
        """
        used = dict(self.stages)
        missing = sorted(set(used) - set(stages))
        if missing:
            raise OperatingPointError(f"there is no stage '{missing[0]}'; {nearest(missing[0], stages)}")
        return np.asarray([used.get(stage, STAGE_OFF) for stage in stages], np.float32)


def check_thresholds(values: Sequence[float], chain: Sequence[str]) -> list[float]:
    """Return thresholds as floats.

    Args:
        values: One per stage.
        chain: Names of the stages before the final.

    Raises:
        OperatingPointError: There are more or fewer thresholds than stages, or one of them is NaN or no number.
    """
    try:
        values = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise OperatingPointError(f"thresholds must be a list of numbers; got {str(values)[:80]}") from error
    if len(values) != len(chain):
        raise OperatingPointError(
            f"{len(values)} thresholds came in for a chain of {len(chain)}; give one for each of "
            f"{', '.join(chain) or 'no stage'}"
        )
    if any(value != value for value in values):
        raise OperatingPointError(f"a threshold must be a number; got {values} for {', '.join(chain)}")
    return values
