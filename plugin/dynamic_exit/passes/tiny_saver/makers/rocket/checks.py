"""Checks on series and labels before anything is fitted to them."""

import torch
from torch import Tensor

from .....errors import PassError
from .classifier import KINDS, Kind


def check_series(series: Tensor, kind: Kind) -> None:
    """Refuse series that ROCKET or MiniRocket has no features of.

    Args:
        series: Any tensor; float (N, channels, length) is right.
        kind: ``rocket`` or ``minirocket``.

    Raises:
        PassError: They have another shape, are shorter than a kernel, or have missing values.
    """
    if series.dim() != 3:
        raise PassError(f"{kind} takes series of shape (N, channels, length); got {list(series.shape)}")
    shortest = KINDS[kind].min_length
    if series.shape[2] < shortest:
        raise PassError(
            f"{kind} takes series of {shortest} steps or more, the length of its longest kernel; got {series.shape[2]} "
            "steps, so give longer series or make another saver"
        )
    missing = (~torch.isfinite(series)).flatten(1).any(dim=1)
    if missing.any():
        first = int(missing.nonzero()[0])
        raise PassError(
            f"{kind} takes no missing values; {int(missing.sum())} of {len(series)} series hold NaN or infinity, first "
            f"series {first}, so fill them in or remove these series"
        )


def check_labels(labels: Tensor, classes: int, kind: Kind) -> None:
    """Refuse labels that no classifier can be fitted to.

    Args:
        labels: int64 (N,), in 0..classes - 1.
        classes: Number of classes.
        kind: ``rocket`` or ``minirocket``.

    Raises:
        PassError: There are fewer samples than classes, or samples of one class alone.
    """
    if len(labels) < classes:
        raise PassError(f"{kind} got {len(labels)} samples for {classes} classes; give it at least one a class")
    found = labels.unique().tolist()
    if len(found) < 2:
        raise PassError(f"{kind} needs samples of two classes or more; all {len(labels)} are of class {found[0]}")
