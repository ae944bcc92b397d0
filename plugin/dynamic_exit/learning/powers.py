"""How much each stage counts in a weighed sum of what stages say: one power a stage, learned from records."""

from dataclasses import replace

import numpy as np

from ..chain.evidence import Evidence, WeighedRule
from ..records import Records, subsample

# powers outside would let one stage decide alone, or hardly count
_LEAST, _MOST = 0.05, 4.0
_MAX_STEPS = 30
# more samples hardly change a power
_SAMPLES = 8_000
# keeps powers finite where a stage is always right
_PENALTY = 1e-3


def learn_powers(records: Records, evidence: Evidence, seed: int = 0) -> Evidence:
    """Learn the power of every stage, relative to that of the final.

    The powers of a stage and of the final together maximize the likelihood of the true class among those that either
    names (conditional logit, McFadden 1974). The ratio of both is the power of the stage in every chain: stages that
    only repeat each other would need a power for each chain, which gains nothing and fits noise.

    Args:
        records: Samples of the search.
        evidence: How answers are combined.
        seed: Decides which samples are looked at, if there are many.

    Returns:
        The evidence with powers; unchanged if the rule weighs no stages, they have powers, or no label is known.
    """
    rule, final = evidence.evidence_rule, len(records.stages) - 1
    rows = np.flatnonzero(np.asarray(records.labels) >= 0)
    if not isinstance(rule, WeighedRule) or evidence.powers or not len(rows):
        return evidence
    known = records.take(rows[subsample(len(rows), _SAMPLES, seed)])
    last = _named(known, rule, final)
    powers = {}
    for stage in range(final):
        own, whole = _pair_of_powers(_choices(_named(known, rule, stage), last), known.truth)
        powers[records.stages[stage]] = float(np.float32(np.clip(own / max(whole, _LEAST), _LEAST, _MOST)))
    return replace(evidence, powers=tuple(powers.items()))


def _named(records: Records, rule: WeighedRule, stage: int) -> tuple[np.ndarray, np.ndarray]:
    # the classes that a stage names (n, k), and what it adds for them at a power of 1
    kept = slice(rule.classes)
    return records.topk_classes[stage, :, kept], rule.share(records.topk_probabilities[stage, :, kept])


def _choices(
    stage: tuple[np.ndarray, np.ndarray], final: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    # the classes that either names (n, 2k), -1 where one stands already, and what both add for them (2, n, 2k)
    same = stage[0][:, :, None] == final[0][:, None, :]
    both = (stage[1][:, :, None] * same).sum(axis=1)
    classes = np.concatenate([final[0], np.where(same.any(axis=2), -1, stage[0])], axis=1)
    shares = [np.concatenate([both, stage[1]], axis=1), np.concatenate([final[1], np.zeros_like(stage[1])], axis=1)]
    return classes, np.stack(shares)


def _pair_of_powers(choices: tuple[np.ndarray, np.ndarray], truth: np.ndarray) -> tuple[float, float]:
    # Newton's method on a concave likelihood; samples whose true class neither names say nothing
    classes, shares = choices
    true = classes == truth[:, None]
    rows = true.any(axis=1)
    true, shares, there = true[rows], shares[:, rows].astype(np.float64), classes[rows] >= 0
    powers = np.ones(2)
    wanted = (shares * true).sum(axis=2)
    for _ in range(_MAX_STEPS):
        score = np.where(there, np.tensordot(powers, shares, 1), -np.inf)
        chance = np.exp(score - score.max(axis=1, initial=0.0, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        mean = (shares * chance).sum(axis=2)
        slope = (wanted - mean).sum(axis=1) - _PENALTY * len(truth) * (powers - 1)
        second = np.einsum("anc,bnc,nc->ab", shares, shares, chance) - mean @ mean.T
        step = np.linalg.solve(second + _PENALTY * len(truth) * np.eye(2), slope)
        powers = powers + np.clip(step, -0.5, 0.5)
        if np.abs(step).max() < 1e-6:
            break
    return float(powers[0]), float(powers[1])
