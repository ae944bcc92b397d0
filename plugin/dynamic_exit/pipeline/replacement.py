"""A saver in the place of the backbone, where it is right at least as often at a lower cost."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..guarantee.drop_checks import DropCheck, check_drops, paired_standard_error
from ..points.goal import Goal
from ..points.operating_point import BACKBONE, OperatingPoints
from ..records import Records
from .ending import end_at
from .stages import RecordedBuild
from .verdict import best_alone

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replacement:
    """What a saver has replaced.

    Attributes:
        goals: One for each goal of the recipe, relative to the saver: those of the recipe are relative to the backbone.
        notes: What happened, one sentence each.
        backbone_cost: Of the backbone, per sample.
        backbone_correct: bool (N,): where the backbone is correct on test samples.
    """

    goals: Sequence[Goal]
    notes: Sequence[str]
    backbone_cost: float
    backbone_correct: np.ndarray

    def check_drops(self, points: OperatingPoints, records: Records) -> list[DropCheck]:
        """Compare points with the drops that their goals allow below the backbone.

        Args:
            points: One for each of `goals`; their own goals are the recipe's.
            records: Of the test samples.
        """
        return check_drops(points, records, reference=self.backbone_correct)


def replace_backbone(recorded: RecordedBuild) -> tuple[RecordedBuild, Replacement | None]:
    """Put a saver in the place of the backbone, if one is right at least as often on calibration samples.

    Args:
        recorded: The model with all of its stages, and their records.

    Returns:
        The model without the backbone and its exits, behind the savers that are cheaper than the one in its place; and
        what was replaced. The same model and None if no saver is good enough.
    """
    build, calibration, test, _ = recorded
    name = best_alone(calibration)
    if name is None:
        logger.info("no saver is right as often as the backbone on calibration samples: it stays")
        return recorded, None
    correct = [records.topk_classes[:, :, 0] == records.truth for records in (calibration, test)]
    saver, share = calibration.index(name), calibration.own_cost[calibration.index(name)] / calibration.baseline_cost
    gained = float(correct[0][saver].mean() - correct[0][-1].mean())
    goals = [
        Goal(budget=wanted.budget / share)
        if wanted.max_accuracy_drop is None
        else Goal(max_accuracy_drop=min(1.0, wanted.max_accuracy_drop + gained))
        for wanted in build.run_inputs.recipe.dynamic_exit.tuning.goals
    ]
    difference = 100 * float(correct[1][saver].mean() - correct[1][-1].mean())
    note = (
        f"{name} stands in the place of the backbone, at {share:.2g} of its cost: it is {100 * gained:+.1f} points "
        f"better on {len(calibration)} calibration samples, {difference:+.1f} ± "
        f"{100 * paired_standard_error(correct[1][-1], correct[1][saver]):.1f} on {len(test)} test samples; drops are "
        f"allowed below the backbone, costs and the point '{BACKBONE}' are those of {name}"
    )
    logger.info(note)
    before = [
        stage
        for stage, kind, cost in zip(calibration.stages, calibration.kinds, calibration.own_cost, strict=True)
        if kind == "saver" and cost < calibration.own_cost[saver]
    ]
    replacement = Replacement(goals, [note], calibration.baseline_cost, correct[1][-1])
    return end_at(recorded, name, before), replacement
