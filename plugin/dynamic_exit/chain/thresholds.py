"""Thresholds of a chain: one number for each stage before the final."""

from collections.abc import Sequence

from ..errors import OperatingPointError


def check_thresholds(values: Sequence[float], chain: Sequence[str]) -> list[float]:
    """Return thresholds as numbers; refuse NaN, and another count than the chain has stages."""
    values = [float(value) for value in values]
    if len(values) != len(chain):
        raise OperatingPointError(
            f"{len(values)} thresholds came in for a chain of {len(chain)}; give one for each of "
            f"{', '.join(chain) or 'no stage'}"
        )
    if any(value != value for value in values):
        raise OperatingPointError(f"a threshold must be a number; got {values} for {', '.join(chain)}")
    return values
