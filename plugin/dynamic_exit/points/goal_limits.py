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


def allowed_drops(
    risk: str, max_accuracy_drop: Sequence[float] | None, max_risk_increase: Sequence[float] | None
) -> Sequence[float]:
    """Return what a risk may increase by, where both kinds of goals may have been given.

    Args:
        risk: Name of the risk.
        max_accuracy_drop: Allowed drops of accuracy.
        max_risk_increase: Allowed increases of another risk.

    Returns:
        Those for the risk; none if nothing was given.

    Raises:
        TuningError: A goal was given that is about another risk.
    """
    if risk == "accuracy" and max_risk_increase:
        raise TuningError("max_risk_increase is about another risk than accuracy; give risk too, or max_accuracy_drop")
    if risk != "accuracy" and max_accuracy_drop:
        raise TuningError(f"max_accuracy_drop is about accuracy, the risk is '{risk}'; give max_risk_increase")
    return (max_accuracy_drop if risk == "accuracy" else max_risk_increase) or []


def goals_from_drops(
    max_accuracy_drops: Sequence[float], risk: str = "accuracy", max_class_drop: float | None = None
) -> list[Goal]:
    """Return one goal per allowed drop.

    Args:
        max_accuracy_drops: Shares between -1 and 0.2, each once; increases of another risk than accuracy.
        risk: Name of the risk.
        max_class_drop: The largest drop of any class or group, in 0..0.2; none if None.

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
    explanation = None if max_class_drop is None else explain_excessive_drop(max_class_drop)
    if explanation:
        raise TuningError(f"the allowed drop of a class {explanation}")
    if max_class_drop is not None and not max_class_drop >= 0:
        raise TuningError(f"the allowed drop of a class is a share between 0 and 0.2; got {max_class_drop:g}")
    if risk == "accuracy":
        return [Goal(max_accuracy_drop=drop, max_class_drop=max_class_drop) for drop in drops]
    return [Goal(max_risk_increase=drop, max_class_drop=max_class_drop) for drop in drops]
