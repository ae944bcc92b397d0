"""What the answers of a configuration lose within each class or group of samples."""

import numpy as np

from ..records import Records
from .evaluation import evaluate
from .thresholds import Configuration


def group_losses(records: Records, configuration: Configuration) -> dict[int, np.ndarray]:
    """Return what the answers of each group lose.

    Args:
        records: The records; their groups, or their classes where they have none.
        configuration: Stages of these records.

    Returns:
        Group -> float64 (n,) in [-1, 1]: what each answer is worth less than the backbone's.
    """
    within = records.with_risk(records.risk.within_groups)
    groups = within.group
    order = np.argsort(groups, kind="stable")
    names, starts = np.unique(groups[order], return_index=True)
    parts = np.split(evaluate(within, configuration).losses[order], starts[1:])
    return {int(name): part for name, part in zip(names, parts, strict=True)}


def group_drops(records: Records, configuration: Configuration) -> dict[int, float]:
    """Return the mean loss of each group, as `group_losses`."""
    return {group: float(losses.mean()) for group, losses in group_losses(records, configuration).items()}
