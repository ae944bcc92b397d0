"""Limits on goals that users ask for: they catch percentages and points given where a share is expected.

They apply where a user states a goal, not where a file is read: a file may hold any share.
"""

from collections.abc import Sequence

from ..errors import TuningError
from .goal import Goal

#: The largest accuracy drop, or loss of a score, that a user can allow, as a share.
LARGEST_DROP = 0.2
# shares that arrive as float32 are slightly above their float64 value
_ROUNDING = 1e-8


def explain_excessive_drop(drop: float, unit: str = "points") -> str | None:
    """Explain why an allowed drop is too large.

    Args:
        drop: The allowed drop, as a share.
        unit: The unit of a hundredth of it.

    Returns:
        The end of a sentence that starts with "key 'x' ..."; None if the drop is within its limit.
    """
    if not drop > LARGEST_DROP + _ROUNDING:
        return None
    meant = drop / 100
    hint = f"did you mean {meant:g}?" if meant <= LARGEST_DROP else f"it is a share of at most {LARGEST_DROP:g}"
    return f"is {drop:g}, which allows a loss of {100 * drop:g} {unit}; {hint}"


def explain_excessive_budget(budget: float) -> str | None:
    """Explain why a budget is too large: it exceeds the cost of the backbone.

    Args:
        budget: The mean cost, as a share of the backbone's.

    Returns:
        As `explain_excessive_drop`.
    """
    if not budget > 1 + _ROUNDING:
        return None
    meant = budget / 100
    # nobody asks for a hundredth of the cost by writing 1.2
    hint = f"did you mean {meant:g}?" if 2 <= budget <= 100 else "it is a share of at most 1"
    return f"is {budget:g}, which is {100 * budget:g} % of the backbone's cost; {hint}"


def goals_from_drops(max_accuracy_drops: Sequence[float]) -> list[Goal]:
    """Return one goal per allowed drop.

    Args:
        max_accuracy_drops: Shares between -1 and 0.2, each once.

    Raises:
        TuningError: A drop is out of range, cannot be meant, or comes twice, or there is none.
    """
    drops = list(max_accuracy_drops)
    if not drops:
        raise TuningError("there is no goal; allow at least one accuracy drop")
    for place, drop in enumerate(drops):
        explanation = explain_excessive_drop(drop)
        if explanation:
            raise TuningError(f"the allowed accuracy drop {explanation}")
        if not drop >= -1:
            raise TuningError(
                f"an allowed accuracy drop is a share between -1 and 0.2, 0.005 is half a point; got {drop:g}"
            )
        if drop in drops[:place]:
            raise TuningError(f"the allowed accuracy drop {drop:g} comes twice; give each once")
    return [Goal(max_accuracy_drop=drop) for drop in drops]
