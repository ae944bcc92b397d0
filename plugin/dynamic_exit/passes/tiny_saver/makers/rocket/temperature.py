"""Scores as probabilities: the scale that fits held-out scores best."""

import torch
from torch import Tensor
from torch.nn import functional

# sharper than this no probability in single precision changes any more
_LOG_RANGE = (-4.0, 6.0)


def fit_factor(scores: Tensor, labels: Tensor) -> float:
    """Return the factor, one over the temperature, with which softmax(factor * scores) is most likely.

    The correct class counts as (N + 1) / (N + 2) rather than 1, as in Platt's method, so that the factor stays finite
    where all samples are right.

    Args:
        scores: float64 (N, classes) of samples that the scores were not fitted to.
        labels: int64 (N,).
    """
    from scipy.optimize import minimize_scalar  # slow to import, and a list of makers imports this one

    smoothing = scores.shape[1] / (scores.shape[1] - 1) / (len(labels) + 2)

    def loss(exponent: float) -> float:
        scaled = torch.e**exponent * scores
        return float(functional.cross_entropy(scaled, labels, label_smoothing=min(smoothing, 0.5)))

    return float(torch.e ** minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x)
