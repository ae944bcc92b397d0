"""Proof that an exported file answers what the model that it was made of answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch

from ..errors import VerificationError
from ..runtime.batches import batches, named_batches
from ..runtime.model import DynamicExitModel

#: Confidences this close to a threshold may fall on either side by rounding.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Agreement:
    """How well two models agree on the same samples, over all operating points.

    Attributes:
        samples: Samples compared at each point.
        points: Operating points compared.
        exits_apart: Rows whose exits differ although no confidence is within rounding of a threshold.
        rounding: Rows whose exits differ by rounding at a threshold.
        predictions_apart: Rows with the same exit and different predictions, by more than rounding to 8 bits.
        largest_difference: Of the logits, over rows with the same exit.
    """

    samples: int
    points: int
    exits_apart: int
    rounding: int
    predictions_apart: int
    largest_difference: float


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
    batch_size: int = 64,
    step: float = 0.0,
) -> Agreement:
    """Compare a dynamic file with the model that it was made of.

    Args:
        model: Drives torch modules or the single parts' sessions.
        session: Of the stitched file.
        feeds: Inputs by name, each (N, ...), in the model's order.
        points: Thresholds float32 (S,) of each operating point.
        batch_size: Samples at a time.
        step: How much a logit may change where a number between two 8-bit steps falls on the other one; 0 in float.

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
        # a probability changes by at most half of what the logits change by
        near = _near_threshold(ours, theirs, thresholds, max(ROUNDING, step / 2)) & differ
        rounding += int(near.sum())
        apart += int((differ & ~near).sum())
        same = ~differ
        other = same & (ours[0].argmax(1) != theirs[0].argmax(1))
        predictions += int((_lead(ours[0][other]) > 2 * step).sum()) if other.any() else 0
        if same.any():
            largest = max(largest, float(np.abs(ours[0] - theirs[0])[same].max()))
    return Agreement(samples, len(points), apart, rounding, predictions, largest)


def _lead(logits: np.ndarray) -> np.ndarray:
    """By how much the largest logit of each row exceeds the second."""
    second, first = np.sort(logits, axis=1)[:, -2:].T
    return first - second


def _near_threshold(ours, theirs, thresholds: np.ndarray, rounding: float) -> np.ndarray:
    """Rows whose earlier exit was taken with a confidence within rounding of its threshold."""
    first = np.minimum(ours[1], theirs[1])
    confidence = np.where(ours[1] <= theirs[1], ours[2], theirs[2])
    limits = np.append(thresholds, np.inf)[first]
    return np.abs(confidence - limits) <= rounding


def agrees(agreement: Agreement, largest_difference: float) -> bool:
    """Whether a file answers like its model, with logits that differ by at most so much."""
    apart = agreement.exits_apart or agreement.predictions_apart
    return not apart and agreement.largest_difference <= largest_difference


def demand(agreement: Agreement, what: str, largest_difference: float) -> Agreement:
    """Fail where an exported file does not answer like its model.

    Args:
        agreement: What `compare` found.
        what: What was compared, for the message.
        largest_difference: Largest difference of logits that is accepted.

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
    if agreement.largest_difference > largest_difference:
        found.append(f"logits by {agreement.largest_difference:.2g}")
    if found:
        asked = f"{agreement.samples} samples at {agreement.points} operating points"
        raise VerificationError(f"{what} differ in {' and '.join(found)} on {asked}; please report this model")
    return agreement
