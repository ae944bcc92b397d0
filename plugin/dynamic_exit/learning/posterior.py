"""The probability of every class given the answers of all stages: what a right answer is worth where labels are few.

A threshold that is chosen on few labels fits their noise. The probability that an answer is right, given what all
stages say of the sample, has much less of it, and does not need the label: a log-linear pool of the stages with one
weight each, fitted by maximum likelihood (a conditional logit) on the samples that have labels.
"""

import numpy as np

from ..records import Records
from ..records.top_k import softmax

# a class that a stage does not keep counts as if it had this probability
_FLOOR = 1e-3
# of the classes that stages name for a sample, as many are told apart
_CLASSES = 24
# of weights around those of equal shares: stages that say nearly the same would else get any
_PENALTY = 3e-3
_MAX_STEPS = 30
_ENOUGH = 1e-4
_CHUNK_ROWS = 1 << 12


def learn_posterior(records: Records, further: Records | None = None) -> Records:
    """Return records whose answers are worth the probability that they are right, given all stages.

    Args:
        records: Samples with labels; those without are not learned from.
        further: Samples of the same stages whose labels are not looked at, joined to the others.

    Returns:
        Records of all samples; evaluations of them are estimates.
    """
    labels = np.asarray(records.labels)
    classes, features = _likely_classes(records)
    known = (labels >= 0) & (classes == labels[:, None]).any(axis=1)
    weights = _fit(features[known], (classes == labels[:, None])[known])
    if further is not None:
        more, more_features = _likely_classes(further)
        classes, features = np.concatenate([classes, more]), np.concatenate([features, more_features])
        records = Records.join([records, further], along="samples")
    return records.with_posterior(classes, _probabilities(features, weights).astype(np.float32))


def _likely_classes(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes that stages find most likely together, and what each says of them.

    Returns:
        int32 (N, L), each once, -1 where there are fewer; float32 (N, L, S), the logarithm of probability over floor.
    """
    stages, samples, _ = records.topk_classes.shape
    width = records.classes
    local = min(_CLASSES, width)
    classes = np.empty((samples, local), dtype=np.int32)
    features = np.empty((samples, local, stages), dtype=np.float32)
    for start in range(0, samples, _CHUNK_ROWS):
        rows = slice(start, min(start + _CHUNK_ROWS, samples))
        every = np.arange(rows.stop - rows.start)[:, None]
        said = np.log1p(records.topk_probabilities[:, rows] / np.float32(_FLOOR))
        total = np.zeros((len(every), width), dtype=np.float32)
        for kept, share in zip(records.topk_classes[:, rows], said, strict=True):
            total[every, kept] += share
        best = np.argpartition(-total, local - 1, axis=1)[:, :local]
        classes[rows] = np.where(np.take_along_axis(total, best, axis=1) > 0, best, -1)
        one = np.zeros_like(total)
        for stage, (kept, share) in enumerate(zip(records.topk_classes[:, rows], said, strict=True)):
            one[every, kept] = share
            features[rows, :, stage] = np.take_along_axis(one, best, axis=1)
            one[every, kept] = 0
    return classes, features


def _fit(features: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Fit the weights (S,) of stages by Newton's method: features (n, L, S), true bool (n, L) with one class each."""
    samples, _, stages = features.shape
    start = np.full(stages, 1 / stages)
    weights, there = start.copy(), features.any(axis=2) | true
    for _ in range(_MAX_STEPS):
        chance = softmax(np.where(there, features @ weights, -np.inf))
        mean = np.einsum("ncs,nc->ns", features, chance)
        slope = (features[true] - mean).sum(axis=0) - _PENALTY * samples * (weights - start)
        second = np.einsum("ncs,nct,nc->st", features, features, chance, optimize=True) - mean.T @ mean
        step = np.linalg.solve(second + _PENALTY * samples * np.eye(stages), slope)
        weights = weights + np.clip(step, -0.5, 0.5)
        if np.abs(step).max() < _ENOUGH:
            break
    return weights


def _probabilities(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    there = features.any(axis=2)
    return softmax(np.where(there, features @ weights, -np.inf))
