"""The plot of the trade-off between accuracy and cost: front, operating points and backbone."""

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from ..chain.evaluation import evaluate
from ..chain.evidence import Evidence
from ..chain.thresholds import Configuration
from ..core.atomic_write import atomic_write, check_writable
from ..errors import OutputError
from ..points.operating_point import OperatingPoints
from ..records import Records
from ..records.splits import Parts
from ..search.options import SearchOptions
from ..tuning.optimizer import front


def plot_front(
    points: OperatingPoints,
    path: str | os.PathLike[str],
    *,
    records: Records | None = None,
    front: Sequence[Configuration] = (),
) -> None:
    """Plot operating points, and the front that they were chosen from.

    Args:
        points: The operating points and their backbone.
        path: The image to write; its folder must exist.
        records: The samples that the points were measured on, for the front's figures.
        front: Configurations as ``dynamic_exit.tuning.optimizer.front`` finds them.

    Raises:
        OutputError: The image cannot be written.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")  # without pyplot, whose backend is global
    axes = figure.subplots()
    try:
        if records is not None and front:
            figures = sorted((evaluate(records, f) for f in front), key=lambda e: e.cost_ratio)
            costs, accuracies = [e.cost_ratio for e in figures], [100 * e.accuracy for e in figures]
            axes.plot(costs, accuracies, color="0.6", linewidth=1.2, marker=".", markersize=4, label="front", zorder=1)
        for index, point in enumerate(points.points):
            label = f"{point.name}: {1 / point.cost_ratio:.2f}x" + (", guaranteed" if point.guarantee else "")
            color = f"C{index % 10}"
            marker = "D" if point.guarantee else "o"
            axes.scatter(point.cost_ratio, 100 * point.accuracy, color=color, marker=marker, label=label, zorder=3)
        axes.scatter(1, 100 * points.baseline.accuracy, color="black", marker="s", label="backbone alone", zorder=3)
        axes.axhline(100 * points.baseline.accuracy, color="black", linewidth=0.6, linestyle=":")
        axes.set_xlim(left=0)
        shown = [100 * p.accuracy for p in points.points] + [100 * points.baseline.accuracy]
        # the cheap end of a front, where most accuracy is lost, would compress the rest of the plot
        room = max(max(shown) - min(shown), 1.0)
        axes.set_ylim(min(shown) - 1.5 * room, max(shown) + 1.2 * room)
        axes.set_xlabel(f"mean cost per sample, of the backbone's ({points.cost_unit})")
        axes.set_ylabel("accuracy on held-out samples (%)")
        axes.grid(color="0.92")
        axes.legend(loc="lower right", fontsize=8)
        image = _image(figure, path)
        with atomic_write(path) as file:
            file.write(image)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error


def check_plot(path: str | os.PathLike[str]) -> None:
    """Check before any work that a plot can be written to a file of this name.

    Raises:
        OutputError: It cannot.
    """
    try:
        check_writable(path)
        _image(Figure(figsize=(1, 1)), path)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error


def _image(figure: Figure, path: str | os.PathLike[str]) -> bytes:
    """Return the content of an image file in the format of its name."""
    file, kind = io.BytesIO(), Path(path).suffix.lstrip(".").lower() or "png"
    # no date or version in the file: the same points give the same bytes
    figure.savefig(file, format=kind, dpi=150, metadata={"Software": None} if kind == "png" else None)
    return file.getvalue()


def _cannot_write(path: str | os.PathLike[str], error: Exception) -> OutputError:
    return OutputError(f"cannot write the plot to '{path}': {getattr(error, 'strerror', None) or error}")


def plot_search(
    parts: Parts, points: OperatingPoints, path: str | os.PathLike[str], options: SearchOptions, count: int = 40
) -> None:
    """Plot the operating points of `tune_file` with the front of the samples that it searched, measured on the others.

    Args:
        parts: The records that were tuned, as `records.part_records` splits them.
        points: What `tune_file` returned.
        path: The image to write; its folder must exist.
        options: As given to `tune_file`.
        count: Configurations on the front at most.

    Raises:
        OutputError: The image cannot be written.
    """
    settled = replace(options, fuse=points.evidence or Evidence("mean"))
    plot_front(points, path, records=parts.reported, front=front(parts.searched, count, settled))
