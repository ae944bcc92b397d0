"""Switching of a loaded model between its operating points."""

from collections.abc import Sequence

import numpy as np

from ..chain.thresholds import check_thresholds
from ..errors import ArgumentError, ExportError, OperatingPointError, nearest
from ..points.operating_point import BACKBONE, OperatingPoint, OperatingPoints, point_thresholds
from .file_runner import Runner
from .manifest import CONFIG_FILE


class OperatingPointSwitch:
    """Holds the current operating point; safe while other threads read it.

    Args:
        runner: The model; stages that its manifest does not list are not checked.
        points: The operating points to switch between.
        name: Name of the initial point; None is the folder's default.

    Attributes:
        active: The current operating point and its thresholds, float32 (S,).

    Raises:
        ExportError: The configuration belongs to another model.
        OperatingPointError: A point belongs to another model, or the name is unknown.
    """

    def __init__(self, runner: Runner, points: OperatingPoints, name: str | None = None):
        self.stages, self.points = runner.stages, points
        manifest = runner.manifest
        if manifest.stages and manifest.stages != self.stages:
            raise ExportError(
                f"{CONFIG_FILE} names the stages {', '.join(manifest.stages)}, the model has "
                f"{', '.join(self.stages) or 'none'}; export it anew"
            )
        if points.last_stage != manifest.last_stage:
            raise OperatingPointError(
                f"the operating points are for a chain that ends at {_end(points.last_stage)}, the file ends at "
                f"{_end(manifest.last_stage)}; take those that were written with it"
            )
        for point in points.points:
            point_thresholds(point, self.stages)
            wanted, own = point.evidence, manifest.evidence
            if point.stages and own is not None and wanted != own.of_stages(each.stage for each in point.stages):
                raise OperatingPointError(
                    f"operating point '{point.name}' is for fuse: {wanted}, the model has fuse: {own}"
                    f"{' with other powers or gates' * (str(wanted) == str(own))}; tune it anew"
                )
        self.set(name or manifest.default or BACKBONE)

    @property
    def point(self) -> OperatingPoint:
        """The current operating point."""
        return self.active[0]

    def check(self, own: Sequence[float]) -> np.ndarray:
        """Return a caller's own thresholds, float32 (S,).

        Raises:
            OperatingPointError: Their number is wrong, or one is NaN.
        """
        return np.asarray(check_thresholds(own, self.stages), np.float32)

    def set(
        self, name: str | None = None, *, max_accuracy_drop: float | None = None, budget: float | None = None
    ) -> OperatingPoint:
        """Switch as `SwitchesOperatingPoints.set_operating_point` says."""
        if (name is not None) + (max_accuracy_drop is not None) + (budget is not None) != 1:
            raise OperatingPointError("name an operating point, or give either max_accuracy_drop or budget")
        if name is not None:
            point = self.points.by_name(name)
        else:
            point = self.points.nearest(max_accuracy_drop=max_accuracy_drop, budget=budget)
        # one assignment, so that other threads see a consistent pair
        self.active: tuple[OperatingPoint, np.ndarray] = (point, point_thresholds(point, self.stages))
        return point


def _end(last_stage: str | None) -> str:
    return f"'{last_stage}'" if last_stage else "the backbone's own head"


class SwitchesOperatingPoints:
    """What users see of the switch; a loaded model inherits it and sets `_switch`."""

    _switch: OperatingPointSwitch

    @property
    def operating_point(self) -> OperatingPoint:
        """The current operating point."""
        return self._switch.point

    @property
    def thresholds(self) -> np.ndarray:
        """The current thresholds, float32 (S,), one per stage in `stages`; +inf for stages that are off."""
        return self._switch.active[1].copy()

    def set_operating_point(
        self,
        name: str | None = None,
        *,
        max_accuracy_drop: float | None = None,
        budget: float | None = None,
        **unknown: object,
    ) -> OperatingPoint:
        """Switch to another operating point, without reloading; safe while other threads call the model.

        Args:
            name: Name of a point; ``backbone`` turns all stages off, where the file holds the whole backbone.
            max_accuracy_drop: Chooses the cheapest point that was tuned for at most this drop (a share), else the
                cheapest with a guarantee for at most this drop. Drops measured for the report do not count.
            budget: Chooses the most accurate point whose measured cost is at most this share of the backbone's.
            **unknown: Refused by name.

        Returns:
            The new operating point.

        Raises:
            ArgumentError: An argument is unknown.
            OperatingPointError: Not exactly one argument, or no point satisfies it.
        """
        for each in unknown:
            known = ("name", "max_accuracy_drop", "budget")
            raise ArgumentError(f"set_operating_point has no argument '{each}'; {nearest(each, known)}")
        return self._switch.set(name, max_accuracy_drop=max_accuracy_drop, budget=budget)
