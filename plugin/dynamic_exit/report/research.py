"""Plots of how well stages know what they do not know: risk against coverage, and reliability."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RecordsError
from ..records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# in inches
_SIZE = (6.0, 4.0)


def risk_coverage(records: Records, stage: str, confidence: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return what a stage gets wrong if it answers only what it is most sure of.

    Args:
        records: N of its samples have labels; samples that it is equally sure of keep their order.
        stage: Name of the stage.
        confidence: How sure it is of each sample of the records, of any range; None takes the largest probability.

    Returns:
        Coverage float64 (N,), rising to 1, and the share of wrong answers among those that are covered, (N,).

    Raises:
        RecordsError: No sample has a label, there is no such stage, or `confidence` has another length.
    """
    largest, correct = _answers(records, stage)
    if confidence is not None and np.shape(confidence) != (len(records),):
        raise RecordsError(f"confidences must be {len(records)}, one a sample; got shape {list(np.shape(confidence))}")
    sure = largest if confidence is None else np.asarray(confidence)[np.asarray(records.labels) >= 0]
    wrong = ~correct[np.argsort(-sure, kind="stable")]
    counts = np.arange(1, len(wrong) + 1)
    return counts / len(wrong), np.cumsum(wrong) / counts


def reliability(records: Records, stage: str, bins: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how often a stage is right by how sure it is.

    Args:
        records: With labels.
        stage: Name of the stage.
        bins: Parts of equal width of the confidences 0..1.

    Returns:
        Mean confidence, accuracy and number of samples of each bin, (bins,); NaN where a bin is empty.

    Raises:
        RecordsError: No sample has a label, or there is no such stage.
    """
    confidence, correct = _answers(records, stage)
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, confidence, minlength=bins) / counts
        shares = np.bincount(place, correct, minlength=bins) / counts
    return means, shares, counts


def calibration_error(records: Records, stage: str, bins: int = 15) -> float:
    """Return the expected calibration error of a stage, in 0..1: the mean distance of accuracy and confidence."""
    means, shares, counts = reliability(records, stage, bins)
    filled = counts > 0
    return float(np.abs(means - shares)[filled] @ counts[filled] / counts.sum())


def plot_risk_coverage(records: Records, stages: Sequence[str] | None = None) -> "Figure":
    """Plot risk against coverage for stages, with the area under each curve.

    Args:
        records: With labels.
        stages: Names; None takes all.

    Returns:
        A figure of matplotlib; a notebook shows it, ``figure.savefig(path)`` writes it.
    """

    def draw(axes: "Axes", stage: str) -> None:
        coverage, risk = risk_coverage(records, stage)
        axes.plot(100 * coverage, 100 * risk, label=f"{stage}: area {risk.mean():.4f}")

    return _plot(records, stages, draw, ("share of samples answered, %", "wrong among them, %"))


def plot_reliability(records: Records, stages: Sequence[str] | None = None, bins: int = 15) -> "Figure":
    """Plot accuracy against confidence for stages, with the expected calibration error of each.

    Args:
        records: With labels.
        stages: Names; None takes all.
        bins: As for `reliability`.

    Returns:
        As for `plot_risk_coverage`.
    """

    def draw(axes: "Axes", stage: str) -> None:
        means, shares, counts = reliability(records, stage, bins)
        filled, label = counts > 0, f"{stage}: calibration error {calibration_error(records, stage, bins):.3f}"
        axes.plot(100 * means[filled], 100 * shares[filled], marker="o", markersize=3, label=label)

    figure = _plot(records, stages, draw, ("confidence, %", "right, %"))
    figure.axes[0].plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle=":")
    return figure


def _answers(records: Records, stage: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence of a stage and whether it is right, for samples with labels."""
    place, labels = records.index(stage), np.asarray(records.labels)
    known = labels >= 0
    if not known.any():
        raise RecordsError("records hold no labels, so that nothing tells right from wrong; record labelled samples")
    confidence = records.topk_probabilities[place, known, 0].astype(np.float64)
    correct: np.ndarray = records.topk_classes[place, known, 0] == labels[known]
    return confidence, correct


def _plot(
    records: Records,
    stages: Sequence[str] | None,
    draw: "Callable[[Axes, str], None]",
    titles: tuple[str, str],
) -> "Figure":
    from matplotlib.figure import Figure  # without pyplot, whose backend is global

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    for stage in records.stages if stages is None else stages:
        draw(axes, stage)
    axes.set_xlabel(titles[0])
    axes.set_ylabel(titles[1])
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    return figure
