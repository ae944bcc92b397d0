"""Goals that cannot be meant: percentages and points where a share is asked for.

Refused where a user asks for a goal, not where a file is read: files of others may hold any share.
"""

#: The largest allowed drop, or loss of a score, that a user can ask for, as a share.
LARGEST_DROP = 0.2
# what comes in float32 is a little more
_ROUNDING = 1e-8


def doubt_of_drop(drop: float, unit: str = "points") -> str | None:
    """Say what is wrong with a drop that is larger than anybody means.

    Args:
        drop: The allowed drop, as a share.
        unit: What a hundredth of it is called.

    Returns:
        What continues the sentence "key 'x' ..."; None where nothing is wrong.
    """
    if not drop > LARGEST_DROP + _ROUNDING:
        return None
    meant = drop / 100
    hint = f"did you mean {meant:g}?" if meant <= LARGEST_DROP else f"it is a share of at most {LARGEST_DROP:g}"
    return f"is {drop:g}, which allows a loss of {100 * drop:g} {unit}; {hint}"


def doubt_of_budget(budget: float) -> str | None:
    """Say what is wrong with a budget of more than the backbone's cost.

    Args:
        budget: The mean cost, as a share of the backbone's.

    Returns:
        As for a drop.
    """
    if not budget > 1 + _ROUNDING:
        return None
    meant = budget / 100
    # nobody asks for a hundredth of the cost by writing 1.2
    hint = f"did you mean {meant:g}?" if 2 <= budget <= 100 else "it is a share of at most 1"
    return f"is {budget:g}, which is {100 * budget:g} % of the backbone's cost; {hint}"
