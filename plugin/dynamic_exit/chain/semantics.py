"""What a chain answers and what that costs: the definition that every runtime, file and search is tested against."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .evidence import Evidence
from .evidence.base import ArrayState
from .thresholds import STAGE_OFF


class ChainAnswer(NamedTuple):
    """What a chain answers.

    Attributes:
        prediction: int64 (N,); the class with the largest evidence.
        exit_index: int64 (N,); the stage where each sample leaves, the final last.
        confidence: float32 (N,); how sure its evidence is.
    """

    prediction: np.ndarray
    exit_index: np.ndarray
    confidence: np.ndarray


def chain_answer(
    probabilities: Sequence[np.ndarray],
    thresholds: Sequence[float] | np.ndarray,
    evidence: Evidence,
    stages: Sequence[str] = (),
) -> ChainAnswer:
    """Return what a chain answers: a sample leaves at the first stage in use whose confidence is above its threshold.

    Args:
        probabilities: float32 (N, C) of every stage, the final last; a row of NaN where a stage has no answer.
        thresholds: One per stage before the final, compared in float32; +inf for a stage that is off.
        evidence: How answers are combined.
        stages: Names of the stages, the final last, where their powers differ.
    """
    # every sample that is left leaves at the final stage, also where its confidence is NaN
    limits = np.asarray([*thresholds, -np.inf], np.float32)
    samples, final = len(probabilities[-1]), len(probabilities) - 1
    state: ArrayState = ()
    answer = ChainAnswer(np.empty(samples, np.int64), np.empty(samples, np.int64), np.empty(samples, np.float32))
    in_play = np.arange(samples)
    for stage, limit in enumerate(limits):
        if limit == STAGE_OFF:
            continue
        name = stages[stage] if stages else ""
        state, combined = evidence.rule_of(name).numpy(state, probabilities[stage][in_play])
        confidence = evidence.confidence_of(name).numpy(combined)
        leaves = (confidence > limit) | (stage == final)
        gone = in_play[leaves]
        answer.prediction[gone] = combined[leaves].argmax(axis=1)
        answer.exit_index[gone], answer.confidence[gone] = stage, confidence[leaves]
        in_play, state = in_play[~leaves], tuple(each[~leaves] for each in state)
    return answer


def chain_answer_cost(
    exit_index: np.ndarray, thresholds: Sequence[float] | np.ndarray, own: np.ndarray, prefix: np.ndarray
) -> np.ndarray:
    """Return what each sample costs: all stages in use up to its exit, and the backbone up to there.

    Args:
        exit_index: int64 (N,); the stage where each sample leaves.
        thresholds: One per stage before the final; +inf for a stage that is off.
        own: float64 (S,); own cost of every stage, 0 for the final.
        prefix: float64 (S,); cost of the backbone before every stage.

    Returns:
        float64 (N,).
    """
    in_use = np.array([*(threshold != STAGE_OFF for threshold in thresholds), True])
    cost: np.ndarray = (np.cumsum(np.where(in_use, own, 0.0)) + prefix)[exit_index]
    return cost
