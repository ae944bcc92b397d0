"""Comparison of an exported file with the model that it was made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from ..core.batching import DEFAULT_BATCH_SIZE, batches, named_batches
from ..errors import VerificationError
from ..runtime.model import DynamicExitModel

#: Largest difference of logits between a file and its model, relative to `logit_size`.
LOGIT_TOLERANCE = 1e-4
#: Confidences this close to a threshold, and logits this close to each other, may change order by rounding.
ROUNDING = 1e-4
# rounding of large logits, relative to their size
_ROUNDING_SHARE = 1e-5


class SupportsRun(Protocol):
    """A session of onnxruntime, or what runs like one."""

    def run(self, output_names: Sequence[str], input_feed: Mapping[str, np.ndarray], /) -> Sequence[np.ndarray]:
        """Return the named outputs for inputs by name."""


class Outputs(NamedTuple):
    """Outputs of a dynamic model: logits (N, C), exit index (N,) and confidence (N,)."""

    logits: np.ndarray
    exit_index: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """How well two models agree on the same samples at all operating points.

    Attributes:
        samples: Samples compared at each point.
        points: Operating points compared.
        exits_apart: Rows whose exits differ by more than rounding at a threshold.
        rounding: Rows whose exits differ by rounding at a threshold.
        predictions_apart: Rows with the same exit whose predictions differ by more than rounding.
        largest_difference: Of the logits of rows with the same exit, relative to `logit_size`.
    """

    samples: int
    points: int
    exits_apart: int
    rounding: int
    predictions_apart: int
    largest_difference: float


def logit_size(logits: np.ndarray) -> np.ndarray:
    """Return the unit for differences of logits: rounding grows with the largest logit of a sample.

    Args:
        logits: (N, C).

    Returns:
        (N,): the largest finite magnitude of each row, at least 1.
    """
    finite = np.where(np.isfinite(logits), np.abs(logits), 0)
    return np.maximum(finite.max(axis=1, initial=0), 1)


def logit_differences(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the largest difference between two models' logits per row, relative to the first one's size.

    Args:
        ours: Logits (N, C).
        theirs: Logits (N, C).

    Returns:
        (N,): NaN if only one of two logits is NaN.
    """
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0, np.abs(ours - theirs))
    return differences.max(axis=1, initial=0) / logit_size(ours)


def run_session(
    session: SupportsRun, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray, batch_size: int
) -> Outputs:
    """Run a dynamic file on all samples.

    Args:
        session: A session of the file.
        feeds: Inputs by name, each (N, ...).
        thresholds: float32 (S,).
        batch_size: Samples at a time.

    Returns:
        The outputs for all samples.
    """
    outputs = [
        session.run([*Outputs._fields], {**batch, "thresholds": thresholds})
        for batch in named_batches(feeds, batch_size)
    ]
    return Outputs(*(np.concatenate(parts) for parts in zip(*outputs, strict=True)))


def run_model(
    model: DynamicExitModel, inputs: Sequence[np.ndarray], thresholds: np.ndarray, batch_size: int
) -> Outputs:
    """Run a dynamic model whose modules run in torch or in sessions, as `run_session` runs a file."""
    model.set_thresholds(thresholds.tolist())
    outputs = []
    with torch.no_grad():
        for batch in batches(inputs, batch_size):
            outputs.append([value.numpy() for value in model(*map(torch.from_numpy, batch))])
    return Outputs(*(np.concatenate(parts) for parts in zip(*outputs, strict=True)))


def compare(
    model: DynamicExitModel,
    session: SupportsRun,
    feeds: Mapping[str, np.ndarray],
    points: Sequence[np.ndarray],
    batch_size: int = DEFAULT_BATCH_SIZE,
    step: float = 0.0,
) -> Agreement:
    """Compare a dynamic file with the model that it was made of.

    Args:
        model: Runs torch modules or the sessions of single parts.
        session: A session of the file.
        feeds: Inputs by name, each (N, ...), in the model's order.
        points: Thresholds float32 (S,) of each operating point.
        batch_size: Samples at a time.
        step: Change of a logit when a value between two 8-bit steps is rounded to the other one, relative to
            `logit_size`; 0 in float.

    Returns:
        The agreement of the two.
    """
    samples = len(next(iter(feeds.values())))
    apart = rounding = predictions = 0
    largest = 0.0
    for thresholds in points:
        ours = run_model(model, list(feeds.values()), thresholds, batch_size)
        theirs = run_session(session, feeds, thresholds, batch_size)
        differ = ours.exit_index != theirs.exit_index
        moved = np.maximum(ROUNDING, max(_ROUNDING_SHARE, step) * logit_size(_earlier(ours, theirs, "logits")))
        # a probability changes by at most half of the change of the logits
        near = _near_threshold(ours, theirs, thresholds, np.maximum(ROUNDING, moved / 2)) & differ
        rounding += int(near.sum())
        apart += int((differ & ~near).sum())
        same = ~differ
        other = same & (ours.logits.argmax(1) != theirs.logits.argmax(1))
        predictions += int((_lead(ours.logits[other]) > 2 * moved[other]).sum()) if other.any() else 0
        # unlike Python's max(), np.max keeps NaN
        largest = float(np.max([largest, *logit_differences(ours.logits[same], theirs.logits[same])]))
    return Agreement(samples, len(points), apart, rounding, predictions, largest)


def _earlier(ours: Outputs, theirs: Outputs, name: str) -> np.ndarray:
    """Return an output, for each row of the model that answered at the earlier exit."""
    mine, other = getattr(ours, name), getattr(theirs, name)
    first = ours.exit_index <= theirs.exit_index
    return np.where(first.reshape(-1, *[1] * (mine.ndim - 1)), mine, other)


def _lead(logits: np.ndarray) -> np.ndarray:
    """Return the difference between the two largest logits of each row."""
    second, first = np.sort(logits, axis=1)[:, -2:].T
    return first - second


def _near_threshold(ours: Outputs, theirs: Outputs, thresholds: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Return which rows took the earlier exit with a confidence within rounding of its threshold."""
    limits = np.append(thresholds, np.inf)[np.minimum(ours.exit_index, theirs.exit_index)]
    return np.abs(_earlier(ours, theirs, "confidence") - limits) <= rounding


def is_equivalent(agreement: Agreement, largest_difference: float) -> bool:
    """Return whether a file answers as its model, with logits that differ by at most so much of their size."""
    apart = agreement.exits_apart or agreement.predictions_apart
    return not apart and agreement.largest_difference <= largest_difference


def assert_equivalent(agreement: Agreement, what: str, largest_difference: float) -> Agreement:
    """Check that an exported file answers as its model.

    Args:
        agreement: The result of `compare`.
        what: Names of the two, for the message.
        largest_difference: Largest accepted difference of logits, relative to `logit_size`.

    Returns:
        The agreement.

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
