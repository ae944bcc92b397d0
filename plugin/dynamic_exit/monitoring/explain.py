"""What is counted of answers, and what has moved, in one sentence."""

import time

import numpy as np

from .reference import PointReference, Reference
from .status import Alarm


def reference_counts(reference: Reference, kind: str) -> dict[str, np.ndarray]:
    """Return the test samples by value of what is watched.

    Args:
        reference: The test samples.
        kind: What is watched, of ``SHARES``.

    Returns:
        int64 (K,) by operating point, from good values to bad; points without labels have no ``accuracy``.
    """

    def of(point: PointReference) -> tuple[int, ...]:
        if kind in ("exits", "classes"):
            return point.counts if kind == "exits" else point.classes
        total, good = (point.samples, point.agreeing) if kind == "agreement" else (point.labelled, point.correct)
        return good, total - good

    return {point.name: np.asarray(of(point)) for point in reference.points if point.labelled or kind != "accuracy"}


def answer_totals(
    point: PointReference, kind: str, values: np.ndarray, exits: np.ndarray, confidence: np.ndarray
) -> np.ndarray:
    """Return figures of answers that add up, from which `explain` tells how they moved.

    Args:
        point: The operating point that gave them.
        kind: What is watched, of ``SHARES``.
        values: int64 (n,): what is watched of each answer.
        exits: int64 (n,): stages, for ``exits`` alone.
        confidence: float32 (n,): for ``exits`` alone.

    Returns:
        float64 (S + 1,): answers by stage and the sum of confidences; int64 (C,): answers by class; or int64 (2,): good
        answers and all.
    """
    if kind == "exits":
        counts = np.bincount(exits, minlength=len(point.exits))
        return np.append(counts, confidence.sum(dtype=np.float64))
    counts = np.bincount(values, minlength=len(point.classes) if kind == "classes" else 2)
    return counts if kind == "classes" else np.array([counts[0], counts.sum()])


def explain(reference: Reference, kind: str, totals: dict[str, np.ndarray], request: int) -> Alarm:
    """Say what has moved, at the operating point that most answers since the change were given at.

    Args:
        reference: The test samples.
        kind: What is watched, of ``SHARES``.
        totals: Of `answer_totals`, by operating point.
        request: Number of answers so far.
    """
    point = max(totals, key=lambda name: totals[name].sum())
    known, found = next(each for each in reference.points if each.name == point), totals[point]
    if kind == "exits":
        answers, confidence = int(found[:-1].sum()), found[-1] / found[:-1].sum()
        stage, before, after = _largest_move(found[:-1], known.exits)
        what = (
            f"'{reference.stages[stage]}' answers {after:.1%} of samples, {before:.1%} of test samples; the "
            f"mean confidence is {confidence:.3f}, there {known.confidence:.3f}"
        )
    elif kind == "classes":
        answers = int(found.sum())
        moved, before, after = _largest_move(found, known.classes)
        what = f"class {moved} is {after:.1%} of answers, {before:.1%} on test samples"
    else:
        answers = int(found[1])
        counts = reference_counts(reference, kind)[point]
        before, after = float(counts[0] / counts.sum()), float(found[0]) / answers
        noun = "are the backbone's" if kind == "agreement" else "are right"
        what = f"{after:.1%} of answers {noun}, {before:.1%} on test samples"
    message = f"live traffic has moved, over about the last {answers} answers at '{point}': {what}"
    return Alarm(kind, request, answers, time.time(), before, after, message)


def explain_inputs(name: str, statistic: str, answers: int, before: float, after: float, request: int) -> Alarm:
    """Say what has moved of inputs.

    Args:
        name: Of the input.
        statistic: Of the statistic that has moved most.
        answers: About how many answers came since the change.
        before: Mean of the statistic among the test samples.
        after: The same since the change.
        request: Number of answers so far.
    """
    what = f"the {statistic.replace('_', ' ')} of input '{name}' is {after:.4g}, {before:.4g} on test samples"
    message = f"live traffic has moved, over about the last {answers} answers: {what}"
    return Alarm("inputs", request, answers, time.time(), before, after, message)


def _largest_move(found: np.ndarray, expected: tuple[int, ...]) -> tuple[int, float, float]:
    """Return where shares differ most, and what they are expected to be and are there."""
    rates, before = found / found.sum(), np.array(expected) / sum(expected)
    place = int(np.abs(rates - before).argmax())
    return place, float(before[place]), float(rates[place])
