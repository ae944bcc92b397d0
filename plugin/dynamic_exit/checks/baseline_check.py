"""Checks before a run that its backbone is better than chance, and finds the likely cause if it is not."""

from collections.abc import Sequence

import numpy as np

from ..core.batching import run_in_batches
from ..core.chance import is_commonest, is_more_accurate, no_better_than_commonest
from ..data.split import Split
from ..errors import DynamicExitError, ModelError
from ..graph import FORWARD_ERRORS, Classifier, explain_forward_failure
from .pixel_range import propose_preprocessing

# samples that are run: at first, at most, at most by class if there are many classes, and at most in all
_FIRST_SAMPLES, _MAX_SAMPLES, _SAMPLES_PER_CLASS, _MAX_SAMPLES_DRAWN = 64, 256, 4, 1024
# few, as the hidden states of large images would be most of the memory that a check takes
_BATCH_SIZE = 8
# level of the test that something explains the answers
_CAUSE_LEVEL = 0.001
# a cause must lift accuracy by this much, and this share of the way from chance to perfect
_MIN_LIFT, _MIN_SHARE_OF_WAY = 0.1, 0.6


def check_backbone(
    backbone: Classifier,
    split: Split,
    labels: Sequence[str],
    mismatch: str | None = None,
    no_weights: bool = False,
    seed: int = 0,
) -> str | None:
    """Compare a backbone with always answering the most frequent class, on some hundred samples.

    Args:
        backbone: In evaluation mode.
        split: Labelled samples, inputs by name; some are drawn.
        labels: Names of the classes, in the order of the logits.
        mismatch: What is wrong with the range of pixels, as `explain_range_mismatch` says.
        no_weights: Whether the recipe names no weights.
        seed: Decides which samples are drawn.

    Returns:
        One sentence with the likely cause if the backbone is no better than chance, its classes look permuted, or
        another range of pixels would make it right far more often; None if nothing is wrong with it.
    """
    most = min(max(_MAX_SAMPLES, _SAMPLES_PER_CLASS * len(labels)), _MAX_SAMPLES_DRAWN)
    drawn = np.random.default_rng(seed).permutation(len(split))[:most]
    first = drawn[:_FIRST_SAMPLES]
    answers = _answers(backbone, split, first)
    if _is_good(answers, split.labels[first]):
        return None
    answers = np.concatenate([answers, _answers(backbone, split, drawn[_FIRST_SAMPLES:])])
    known = split.labels[drawn]
    by_chance, (order, permuted) = no_better_than_commonest(answers, known), _permutation(answers, known)
    finding = f"the backbone is right on {(answers == known).mean():.1%} of {len(known)} calibration samples"
    if permuted is None and not by_chance:
        better = None if _says_range(backbone) else _better_preprocessing(backbone, split, first, answers[: len(first)])
        return better and f"{finding}; {better}"
    if by_chance:
        counts = np.bincount(known)
        finding += (
            f", no better than always answering '{labels[int(counts.argmax())]}' ({counts.max() / len(known):.1%})"
        )
    if permuted is not None:
        moved = _describe(order, labels)
        return f"{finding}; its classes look permuted: {moved}; read that way it is right on {permuted:.1%}"
    return f"{finding}; {_cause(backbone, split, drawn, answers, mismatch, no_weights)}"


def _answers(backbone: Classifier, split: Split, rows: np.ndarray) -> np.ndarray:
    """Answer some samples, of which a few are read at a time."""
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(rows), _BATCH_SIZE):
        few = split.take(rows[start : start + _BATCH_SIZE])
        try:
            answers = run_in_batches(backbone, backbone.select(few.tensors)).argmax(1).numpy()
        except DynamicExitError:
            raise
        except FORWARD_ERRORS as error:
            reason = explain_forward_failure(error, "let it take any number")
            raise ModelError(f"the backbone takes 2 samples, but not {len(few)}: {reason}") from error
        found.append(answers)
    return np.concatenate(found)


def _is_good(answers: np.ndarray, labels: np.ndarray) -> bool:
    """Whether answers are surely better than the most frequent class, and no permutation could lift them much."""
    correct = answers == labels
    return bool(correct.mean() > 1 - _MIN_LIFT) and is_more_accurate(correct, is_commonest(labels), _CAUSE_LEVEL)


def _is_convincing(answers: np.ndarray, before: np.ndarray, labels: np.ndarray) -> bool:
    """Whether other answers are so much better than those before that they show the cause."""
    accuracy, share = (answers == labels).mean(), np.bincount(labels).max() / len(labels)
    enough = accuracy - (before == labels).mean() >= _MIN_LIFT and accuracy >= share + _MIN_SHARE_OF_WAY * (1 - share)
    return bool(enough) and is_more_accurate(answers == labels, before == labels, _CAUSE_LEVEL)


def _permutation(answers: np.ndarray, labels: np.ndarray) -> tuple[dict[int, int], float | None]:
    """Find which class each answer should stand for: one place off, or by the best assignment.

    Returns:
        Answer -> class where they differ, and the accuracy with it on samples that it was not found on; None if no
        permutation is convincing.
    """
    halves = np.arange(len(labels)) % 2 == 0
    corrected = answers.copy()
    for half in (halves, ~halves):
        order = _assignment(answers[half], labels[half])
        corrected[~half] = [order.get(answer, answer) for answer in answers[~half].tolist()]
    found = [(corrected, _assignment(answers, labels))]
    found += [(answers + step, {each: each + step for each in np.unique(answers).tolist()}) for step in (1, -1)]
    best, order = max(found, key=lambda each: (each[0] == labels).sum())
    return (order, float((best == labels).mean())) if _is_convincing(best, answers, labels) else ({}, None)


def _assignment(answers: np.ndarray, labels: np.ndarray) -> dict[int, int]:
    """Match answers with classes one to one so that most samples are correct; return those that change."""
    from scipy.optimize import linear_sum_assignment  # slow to import, and few backbones are looked at so closely

    seen = np.union1d(answers, labels)
    counts = np.zeros((len(seen), len(seen)))
    np.add.at(counts, (np.searchsorted(seen, answers), np.searchsorted(seen, labels)), 1)
    counts += 0.01 * np.eye(len(seen))  # what no sample tells stays the same
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return {int(seen[i]): int(seen[j]) for i, j in zip(rows, columns, strict=True) if i != j and counts[i, j]}


def _describe(order: dict[int, int], labels: Sequence[str], most: int = 3) -> str:
    shown = [
        f"what it calls '{labels[answer]}' is labelled '{labels[label]}'"
        for answer, label in sorted(order.items())
        if label in range(len(labels))
    ]
    more = f", and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def _says_range(backbone: Classifier) -> bool:
    """Whether a recipe says something of the range of pixels."""
    steps = backbone.preprocessing
    return steps is not None and (steps.normalizes or steps.scale != 1)


def _better_preprocessing(backbone: Classifier, split: Split, rows: np.ndarray, answers: np.ndarray) -> str | None:
    """Say which other preprocessing of images makes a backbone right far more often on some samples."""
    images = [array for array in split.take(rows[:_FIRST_SAMPLES]).inputs.values() if array.ndim == 4]
    labels = split.labels[rows]
    for subject, keys, other in propose_preprocessing(backbone, images[0]) if len(images) == 1 else ():
        found = _answers(other, split, rows)
        if _is_convincing(found, answers, labels):
            right = f"it is right on {(found == labels).mean():.1%}"
            return f"the {subject} looks wrong: with `{keys}` in its `preprocessing` {right}"
    return None


def _cause(
    backbone: Classifier, split: Split, rows: np.ndarray, answers: np.ndarray, mismatch: str | None, no_weights: bool
) -> str:
    """Say why a backbone may be no better than chance if its classes are in order."""
    if mismatch is not None:
        return f"its {mismatch}"
    if better := _better_preprocessing(backbone, split, rows, answers):
        return better
    if no_weights:
        return "the recipe names no `weights`: unless its function loads them, they are random"
    labels = split.labels[rows]
    recalls = [(answers[labels == label] == label).mean() for label in np.unique(labels)]
    if np.mean(recalls) > 1 / len(recalls) + 0.2:
        return "its answers do follow the labels, but classes are so unequal that accuracy tells little"
    return "neither the order of its classes nor the range of its inputs explains it; look at weights and labels"
