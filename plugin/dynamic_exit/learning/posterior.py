"""The probability of every class given the answers of all stages: what a right answer is worth where labels are few.

A threshold that is chosen on few labels fits their noise. The probability that an answer is right, given what all
stages say of the sample, has much less of it, and does not need the label: a log-linear pool of the stages with one
weight each, fitted by maximum likelihood (a conditional logit) on the samples that have labels.
"""

from dataclasses import replace

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
        Records of all samples, judged as the first, without groups where there are further ones. Evaluations of them
        are estimates.
    """
    labels = np.asarray(records.labels)
    classes, features = _likely_classes(records)
    known = (labels >= 0) & (classes == labels[:, None]).any(axis=1)
    weights = _fit(features[known], (classes == labels[:, None])[known])
    if further is not None:
        more, more_features = _likely_classes(further)
        classes, features = np.concatenate([classes, more]), np.concatenate([features, more_features])
        # groups are for limits, which are counted on labels
        parts = [each if each.groups is None else replace(each, groups=None) for each in (records, further)]
        records = Records.join(parts, along="samples").with_risk(records.risk)
    return records.with_posterior(classes, _probabilities(features, weights).astype(np.float32))


def _likely_classes(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes that stages find most likely together, and what each says of them.

    Returns:
        int32 (N, L), each once, -1 where there are fewer; float32 (N, L, S), the logarithm of probability over floor.
    """
    stages, samples, kept = records.topk_classes.shape
    most = stages * kept
    local = min(_CLASSES, records.classes, most)
    classes = np.full((samples, local), -1, dtype=np.int32)
    features = np.zeros((samples, local, stages), dtype=np.float32)
    stage = np.repeat(np.arange(stages), kept)
    for start in range(0, samples, _CHUNK_ROWS):
        rows = slice(start, min(start + _CHUNK_ROWS, samples))
        every = np.arange(rows.stop - rows.start)[:, None]
        named = records.topk_classes[:, rows].transpose(1, 0, 2).reshape(-1, most)
        said = np.log1p(records.topk_probabilities[:, rows] / np.float32(_FLOOR)).transpose(1, 0, 2).reshape(-1, most)
        # equal classes side by side, numbered by sample
        order = np.argsort(named, axis=1, kind="stable")
        named, said = np.take_along_axis(named, order, axis=1), np.take_along_axis(said, order, axis=1)
        number = np.cumsum(named != np.roll(named, 1, axis=1), axis=1)
        number -= number[:, :1]
        total = np.bincount((every * most + number).ravel(), said.ravel(), minlength=len(every) * most)
        total = total.reshape(-1, most)
        best = np.argpartition(-total, local - 1, axis=1)[:, :local]
        place = np.full(total.shape, -1)
        np.put_along_axis(place, best, np.arange(local)[None], axis=1)
        found = np.take_along_axis(place, number, axis=1)
        row, column = np.nonzero((found >= 0) & (said > 0))
        at = start + row, found[row, column]
        classes[at] = named[row, column]
        features[(*at, stage[order[row, column]])] = said[row, column]
    return classes, features


def _fit(features: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Fit the weights (S,) of stages by Newton's method: features (n, L, S), true bool (n, L) with one class each."""
    samples, _, stages = features.shape
    start = np.full(stages, 1 / stages)
    weights, there = start.copy(), features.any(axis=2) | true
    said, right = features[there].astype(np.float64), features[true].sum(axis=0)
    owner = np.nonzero(there)[0]
    for _ in range(_MAX_STEPS):
        logits = np.full(there.shape, -np.inf)
        logits[there] = said @ weights
        weighed = said * softmax(logits)[there][:, None]
        mean = np.stack([np.bincount(owner, column, minlength=samples) for column in weighed.T], axis=1)
        slope = right - mean.sum(axis=0) - _PENALTY * samples * (weights - start)
        second = said.T @ weighed - mean.T @ mean
        step = np.linalg.solve(second + _PENALTY * samples * np.eye(stages), slope)
        weights = weights + np.clip(step, -0.5, 0.5)
        if np.abs(step).max() < _ENOUGH:
            break
    return weights


def _probabilities(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    there = features.any(axis=2)
    return softmax(np.where(there, features @ weights, -np.inf))
