"""Proof that an exported file answers what the model that it was made of answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch

from ..core.batching import DEFAULT_BATCH_SIZE, batches, named_batches
from ..errors import VerificationError
from ..runtime.model import DynamicExitModel

#: Largest difference of logits between a file and its model, in units of the logits' size.
LOGIT_TOLERANCE = 1e-4
#: Confidences this close to a threshold, and logits this close to each other, may fall on either side by rounding.
ROUNDING = 1e-4
# what rounding makes of large logits: this share of their size
_ROUNDING_SHARE = 1e-5


@dataclass(frozen=True)
class Agreement:
    """How well two models agree on the same samples, over all operating points.

    Attributes:
        samples: Samples compared at each point.
        points: Operating points compared.
        exits_apart: Rows whose exits differ although no confidence is within rounding of a threshold.
        rounding: Rows whose exits differ by rounding at a threshold.
        predictions_apart: Rows with the same exit and different predictions, by more than rounding.
        largest_difference: Of the logits, in units of their size (`logit_size`), over rows with the same exit.
    """

    samples: int
    points: int
    exits_apart: int
    rounding: int
    predictions_apart: int
    largest_difference: float


def logit_size(logits: np.ndarray) -> np.ndarray:
    """Return the unit in which differences of logits count: rounding grows with the largest of a sample.

    Args:
        logits: (N, C).

    Returns:
        (N,): the largest finite magnitude in each row, at least 1.
    """
    finite = np.where(np.isfinite(logits), np.abs(logits), 0)
    return np.maximum(finite.max(axis=1, initial=0), 1)


def logit_differences(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return by how much two models' logits differ at most, in units of the size of the first one's.

    Args:
        ours: (N, C).
        theirs: (N, C).

    Returns:
        (N,): NaN where only one of both is no number.
    """
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0, np.abs(ours - theirs))
    return differences.max(axis=1, initial=0) / logit_size(ours)


def run_session(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run a dynamic file over all samples.

    Args:
        session: Of the file.
        feeds: Inputs by name, each (N, ...).
        thresholds: float32 (S,).
        batch_size: Samples at a time.

    Returns:
        Logits (N, C), exit index (N,), confidence (N,).
    """
    outputs = []
    for batch in named_batches(feeds, batch_size):
        told = {**batch, "thresholds": thresholds}
        outputs.append(session.run(["logits", "exit_index", "confidence"], told))
    return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))


def run_model(
    model: DynamicExitModel, inputs: Sequence[np.ndarray], thresholds: np.ndarray, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run a dynamic model whose modules are torch or single sessions, as `run_session` runs a file."""
    model.set_thresholds(thresholds)
    outputs = []
    with torch.no_grad():
        for batch in batches(inputs, batch_size):
            outputs.append([value.numpy() for value in model(*map(torch.from_numpy, batch))])
    return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))


def compare(
    model: DynamicExitModel,
    session: onnxruntime.InferenceSession,
    feeds: Mapping[str, np.ndarray],
    points: Sequence[np.ndarray],
    batch_size: int = DEFAULT_BATCH_SIZE,
    step: float = 0.0,
) -> Agreement:
    """Compare a dynamic file with the model that it was made of.

    Args:
        model: Drives torch modules or the single parts' sessions.
        session: Of the stitched file.
        feeds: Inputs by name, each (N, ...), in the model's order.
        points: Thresholds float32 (S,) of each operating point.
        batch_size: Samples at a time.
        step: How much a logit may change where a number between two 8-bit steps falls on the other one, in units of
            the logits' size; 0 in float.

    Returns:
        How well they agree.
    """
    samples = len(next(iter(feeds.values())))
    apart = rounding = predictions = 0
    largest = 0.0
    for thresholds in points:
        ours = run_model(model, list(feeds.values()), thresholds, batch_size)
        theirs = run_session(session, feeds, thresholds, batch_size)
        differ = ours[1] != theirs[1]
        moved = np.maximum(ROUNDING, max(_ROUNDING_SHARE, step) * logit_size(_earlier(ours, theirs, 0)))
        # a probability changes by at most half of what the logits change by
        near = _near_threshold(ours, theirs, thresholds, np.maximum(ROUNDING, moved / 2)) & differ
        rounding += int(near.sum())
        apart += int((differ & ~near).sum())
        same = ~differ
        other = same & (ours[0].argmax(1) != theirs[0].argmax(1))
        predictions += int((_lead(ours[0][other]) > 2 * moved[other]).sum()) if other.any() else 0
        # not max() of Python, which may lose a NaN
        largest = float(np.max([largest, *logit_differences(ours[0][same], theirs[0][same])]))
    return Agreement(samples, len(points), apart, rounding, predictions, largest)


def _earlier(ours, theirs, output: int) -> np.ndarray:
    """An output of whichever answered at the earlier exit, row by row."""
    first = ours[1] <= theirs[1]
    return np.where(first.reshape(-1, *[1] * (ours[output].ndim - 1)), ours[output], theirs[output])


def _lead(logits: np.ndarray) -> np.ndarray:
    """By how much the largest logit of each row exceeds the second."""
    second, first = np.sort(logits, axis=1)[:, -2:].T
    return first - second


def _near_threshold(ours, theirs, thresholds: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Rows whose earlier exit was taken with a confidence within rounding of its threshold."""
    limits = np.append(thresholds, np.inf)[np.minimum(ours[1], theirs[1])]
    return np.abs(_earlier(ours, theirs, 2) - limits) <= rounding


def is_equivalent(agreement: Agreement, largest_difference: float) -> bool:
    """Whether a file answers like its model, with logits that differ by at most so much of their size."""
    apart = agreement.exits_apart or agreement.predictions_apart
    return not apart and agreement.largest_difference <= largest_difference


def assert_equivalent(agreement: Agreement, what: str, largest_difference: float) -> Agreement:
    """Fail where an exported file does not answer like its model.

    Args:
        agreement: What `compare` found.
        what: What was compared, for the message.
        largest_difference: Largest difference of logits that is accepted, in units of their size.

    Returns:
        The agreement, when it holds.

    Raises:
        VerificationError: An exit, a prediction or a logit differs.
    """
    found = []
    if agreement.exits_apart:
        found.append(f"{agreement.exits_apart} exits")
    if agreement.predictions_apart:
        found.append(f"{agreement.predictions_apart} predictions")
    if not agreement.largest_difference <= largest_difference:
        found.append(f"logits by {agreement.largest_difference:.2g} of their size")
    if found:
        asked = f"{agreement.samples} samples at {agreement.points} operating points"
        raise VerificationError(f"{what} differ in {' and '.join(found)} on {asked}; please report this model")
    return agreement
