"""Switches a loaded model between its operating points."""

from collections.abc import Sequence

import numpy as np

from ..chain.operating_point import BACKBONE, OperatingPoint, OperatingPoints
from ..chain.thresholds import check_thresholds, point_thresholds
from ..errors import ExportError, OperatingPointError
from .file_runner import Runner
from .manifest import CONFIG_FILE


class OperatingPointSwitch:
    """Holds the operating point in force; safe while other threads read it.

    Args:
        runner: What answers.
        stages: The chain as the folder's configuration names it; empty if it names none.
        points: What can be switched to.
        name: Of the point to start with; None is the folder's default.

    Raises:
        ExportError: The configuration is of another model.
        OperatingPointError: A point is of another model, or the name is unknown.
    """

    def __init__(self, runner: Runner, stages: Sequence[str], points: OperatingPoints, name: str | None = None):
        self.stages, self.points = runner.stages, points
        if stages and tuple(stages) != self.stages:
            said = f"the stages {', '.join(stages)}, the model has {', '.join(self.stages) or 'none'}"
            raise ExportError(f"{CONFIG_FILE} names {said}; export it anew")
        for point in points.points:
            point_thresholds(point, self.stages)
            if point.stages and runner.fuse not in (None, point.fuse):
                said = f"is for fuse: {point.fuse}, the model has fuse: {runner.fuse}"
                raise OperatingPointError(f"operating point '{point.name}' {said}; tune it anew")
        self.set(name or runner.default or BACKBONE)

    @property
    def point(self) -> OperatingPoint:
        """The point in force."""
        return self._active[0]

    def thresholds(self, own: Sequence[float] | None = None) -> np.ndarray:
        """Return thresholds, float32 (S,): those in force, or a caller's own once they are checked.

        Raises:
            OperatingPointError: Thresholds of another count, or NaN.
        """
        return self._active[1] if own is None else np.asarray(check_thresholds(own, self.stages), np.float32)

    def set(
        self, name: str | None = None, *, max_accuracy_drop: float | None = None, budget: float | None = None
    ) -> OperatingPoint:
        """Switch to another operating point.

        Args:
            name: Of a point; ``backbone`` turns every stage off.
            max_accuracy_drop: The cheapest point that was tuned for at most this drop, a share; else the cheapest whose
                guarantee is for at most this. What a point happened to lose on the report's samples has no say.
            budget: The most accurate point that costs at most this share of the backbone, as measured.

        Returns:
            The point now in force.

        Raises:
            OperatingPointError: Not exactly one wish, or none that fits.
        """
        if (name is not None) + (max_accuracy_drop is not None) + (budget is not None) != 1:
            raise OperatingPointError("name an operating point, or give either max_accuracy_drop or budget")
        if name is not None:
            point = self.points.by_name(name)
        else:
            point = self.points.nearest(max_accuracy_drop=max_accuracy_drop, budget=budget)
        # one assignment, so that other threads see both or none
        self._active: tuple[OperatingPoint, np.ndarray] = (point, point_thresholds(point, self.stages))
        return point
