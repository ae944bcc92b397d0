"""When a stage may answer: a logistic regression for each stage, learned from records."""

from dataclasses import replace

import numpy as np

from ..chain.confidence import Gate
from ..chain.confidence.learned import LearnedConfidence, log_odds
from ..chain.confidence.margin import two_largest
from ..chain.evidence import Evidence
from ..chain.evidence.base import RecordedEvidence
from ..records import Records, subsample

# more samples hardly change a gate
_SAMPLES = 50_000
_MAX_STEPS = 30
_LARGEST_STEP = 2.0
_ENOUGH = 1e-3
# of weights of features with a standard deviation of 1: keeps them finite where a stage is never wrong
_PENALTY = 1.0
# of what a class adds, at the start
_CLASS_PENALTY = 30.0


def learn_gates(records: Records, evidence: Evidence, seed: int = 0) -> Evidence:
    """Learn the gate of every stage before the final, from its own evidence.

    A gate foretells whether the answer is worth as much as that of the stage and the final together. It is learned from
    the stage alone, whatever runs before it: gates for each chain gained half a percent of cost and would need a
    search for each.

    Args:
        records: Samples of the search.
        evidence: How answers are combined, with powers.
        seed: Decides which samples are looked at, if there are many.

    Returns:
        The evidence with new gates; unchanged if its confidence is not learned.
    """
    if not isinstance(evidence.confidence_rule, LearnedConfidence):
        return evidence
    part = records.take(subsample(len(records), _SAMPLES, seed))
    recorded, stages = replace(evidence, gates=()).on(part), records.stages[:-1]
    return replace(evidence, gates=tuple((name, _gate(recorded, place)) for place, name in enumerate(stages)))


def _gate(recorded: RecordedEvidence, stage: int) -> Gate:
    records, rule = recorded.records, recorded.rule
    own = rule.with_power(recorded.powers[stage])
    _, evidence = own.numpy((), records.topk_probabilities[stage])
    answer = records.topk_classes[stage].astype(np.int64)
    predicted = answer[:, 0]
    together = (len(records.stages) - 1,) if rule.separable else (stage, len(records.stages) - 1)
    if records.risk.depth == 1:
        harmless = records.worth(predicted) >= records.worth(recorded.search(together)[0])
    else:
        harmless = records.worth(answer[:, : records.risk.depth]) >= records.final_worth
    known = np.isfinite(evidence).all(axis=1)
    largest, second = two_largest(evidence[known], axis=1)
    features = np.stack([log_odds(largest), log_odds(second), largest - second], axis=1).astype(np.float64)
    constant, weights, offsets = _logistic(features, predicted[known], harmless[known])
    largest_weight, second_weight, margin = (round(float(weight), 6) for weight in weights)
    return Gate(
        constant=round(constant, 6),
        largest=largest_weight,
        second=second_weight,
        margin=margin,
        offsets=tuple(round(float(offset), 4) for offset in offsets),
    )


def _logistic(features: np.ndarray, classes: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Fit a logistic regression with an offset for each class, by Newton's method.

    Offsets are drawn to 0 by as much as they vary (empirical Bayes): hardly for two classes of which one is trusted too
    much, strongly for a thousand with few samples each, where thresholds would fit the same noise again.

    Args:
        features: float64 (n, f).
        classes: int64 (n,).
        target: bool (n,).

    Returns:
        The constant, weights (f,), and offsets (classes,).
    """
    middle, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread < 1e-6] = 1.0
    design = np.column_stack([np.ones(len(features)), (features - middle) / spread])
    count = 1 + int(classes.max(initial=0))
    weights, offsets = np.zeros(design.shape[1]), np.zeros(count)
    penalty, class_penalty = np.diag([1e-3, *[_PENALTY] * features.shape[1]]), _CLASS_PENALTY
    seen = np.bincount(classes, minlength=count) > 0
    for _ in range(_MAX_STEPS):
        chance = 0.5 + 0.5 * np.tanh((design @ weights + offsets[classes]) / 2)
        left, curve = target - chance, chance * (1 - chance)
        slope = design.T @ left - penalty @ weights
        class_slope = np.bincount(classes, left, count) - class_penalty * offsets
        # the part of the second derivative that belongs to classes is diagonal, so that they are eliminated first
        class_curve = np.bincount(classes, curve, count) + class_penalty
        mixed = np.stack([np.bincount(classes, curve * column, count) for column in design.T])
        second = (design * curve[:, None]).T @ design + penalty - (mixed / class_curve) @ mixed.T
        step = np.linalg.solve(second, slope - mixed @ (class_slope / class_curve))
        size = np.abs(step).max()
        step *= min(1.0, _LARGEST_STEP / max(size, _ENOUGH))
        weights, offsets = weights + step, offsets + (class_slope - mixed.T @ step) / class_curve
        class_penalty = seen.sum() / (offsets @ offsets + (1 / class_curve[seen]).sum())
        if size < _ENOUGH:
            break
    weights[1:] /= spread
    return float(weights[0] - weights[1:] @ middle), weights[1:], offsets
